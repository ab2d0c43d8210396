"""The Beam steps, one PTransform a file, each with a pure twin that works on columns."""
