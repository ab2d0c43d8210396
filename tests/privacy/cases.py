"""How many cases a property is tried on. Nothing is kept between runs, and a busy machine is no failure."""

from hypothesis import HealthCheck, settings

CASES = settings(max_examples=500, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
