"""Measurements: accuracy on the sample data, and speed against other systems."""
