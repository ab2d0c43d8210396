"""How many cases a property is tried on, and norms on lists."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import HealthCheck, settings

from privacy.grid import Ints

# Nothing is kept between runs, and a busy machine is no failure.
CASES = settings(max_examples=500, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def limited_by(limit: Callable[[Ints, Ints, int], Ints], units: Sequence[Sequence[int]], norm: int) -> list[list[int]]:
    """`limit_norms` or `limit_totals` on lists."""
    values = np.array([value for unit in units for value in unit], np.int64)
    starts = np.cumsum([0] + [len(unit) for unit in units])
    result = limit(values, starts[:-1], norm)
    assert result.dtype == np.int64
    return [result[start:end].tolist() for start, end in itertools.pairwise(starts)]
