"""privacy/norms.py, against the definition in docs/guarantee.md written in Python's integers."""

import itertools
import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from privacy.norms import limit_amounts, limit_norms, weights_by_keys
from tests.privacy.cases import CASES, limited_by

_SIZES = st.one_of(
    st.integers(0, 3),
    st.integers(2**29 - 2, 2**30 + 2),
    st.integers(2**31 - 2, 2**31 + 2),
    st.integers(2**62 - 3, 2**62),
    st.integers(0, 62).flatmap(lambda bits: st.integers(0, 2**bits)),
)
_VALUES = st.builds(lambda size, sign: size * sign, _SIZES, st.sampled_from([-1, 1]))
_UNIT = st.lists(_VALUES, min_size=1, max_size=40)
_NORMS = st.one_of(st.integers(2**29, 2**30), st.integers(0, 30).map(lambda bits: 2**bits), st.integers(1, 2**30))


def reference(values: list[int], norm: int) -> list[int]:
    """The definition: low bits dropped, root up, floor toward zero."""
    if sum(value * value for value in values) <= norm * norm:
        return values
    room = (62 - len(values).bit_length()) // 2
    shift = max(max(abs(value) for value in values).bit_length() - room, 0)
    kept = [abs(value) >> shift for value in values]
    square = sum(value * value for value in kept)
    root = math.isqrt(square)
    root += root * root < square
    return [(1 if value > 0 else -1) * (size * norm // root) for value, size in zip(values, kept, strict=True)]


limited = partial(limited_by, limit_norms)


@CASES
@given(st.lists(_UNIT, min_size=1, max_size=6), _NORMS)
@example([[2**62] * 40, [-(2**62)]], 2**30)
@example([[2**30, 1]], 2**30)
@example([[2**30], [2**30 - 1, 46340]], 2**30)
def test_n8_every_result_is_that_of_the_definition_and_within_the_norm(units: list[list[int]], norm: int) -> None:
    """To the integer; the sum of squares in exact integers; shorter vectors untouched."""
    for unit, result in zip(units, limited(units, norm), strict=True):
        assert result == reference(unit, norm)
        assert sum(value * value for value in result) <= norm * norm
        if sum(value * value for value in unit) <= norm * norm:
            assert result == unit


@CASES
@given(_UNIT, st.lists(_UNIT, max_size=4), st.lists(_UNIT, max_size=4), _NORMS)
def test_a_unit_does_not_feel_the_others(unit: list[int], before: list[list[int]], after: list[list[int]], norm: int) -> None:
    """Alone, or between any other units, a unit's result is the same."""
    assert limited([*before, unit, *after], norm)[len(before)] == limited([unit], norm)[0]


@CASES
@given(_UNIT, st.integers(2**29, 2**30))
def test_a_scaled_vector_is_close_to_the_ideal_one(unit: list[int], norm: int) -> None:
    """Within one part in 1e6 of x C / ||x||, in the L2 norm and in rationals; signs and the order of sizes are kept."""
    result = limited([unit], norm)[0]
    square = sum(value * value for value in unit)
    assert all(value * other >= 0 for value, other in zip(unit, result, strict=True))
    assert all(abs(other) <= abs(value) for value, other in zip(unit, result, strict=True))
    pairs = sorted(zip(map(abs, unit), map(abs, result), strict=True))
    assert all(first[1] <= second[1] for first, second in itertools.pairwise(pairs))
    if square > norm * norm:
        root = math.isqrt(square << 80)
        ideal = [Fraction(value * norm << 40, root) for value in unit]
        off = sum((wanted - got) ** 2 for wanted, got in zip(ideal, result, strict=True))
        assert off <= Fraction(norm, 10**6) ** 2


@pytest.mark.parametrize("keys", [1000, 65_536, 300_000])
def test_units_with_very_many_keys(keys: int) -> None:
    """One unit in many keys between two small ones: the definition, the norm, and hardly less than it."""
    rng = np.random.default_rng(keys)
    norm = 2**30 - 1
    large = (rng.integers(0, 2**62, keys) >> rng.integers(0, 62, keys)) * rng.choice([-1, 1], keys)
    result = limited([[3], large.tolist(), [-4]], norm)
    assert result[0] == [3]
    assert result[2] == [-4]
    assert result[1] == reference(large.tolist(), norm)
    assert (0.998 * norm) ** 2 < sum(value * value for value in result[1]) <= norm**2


def test_no_values() -> None:
    """No unit, no value."""
    assert limit_norms(np.zeros(0, np.int64), np.zeros(0, np.int64), 2**30).shape == (0,)


@CASES
@given(st.integers(1, 2**30), st.integers(1, 2**30), st.integers(0, 3000))
@example(2**29, 2**29, 65_536)
@example(2**30, 2**30, 65_536)
@example(1, 2**30, 65_536)
def test_n8_weights_are_exact(each: int, norm: int, most: int) -> None:
    """min(each, floor(sqrt(norm^2 / d))) to the integer for every d, and d times its square within the norm's."""
    weights = weights_by_keys(each, norm, most).tolist()
    assert len(weights) == most + 1
    assert weights[0] == 0
    for keys, weight in enumerate(weights[1:], start=1):
        assert weight == min(each, math.isqrt(norm * norm // keys))
        assert keys * weight * weight <= norm * norm


@CASES
@given(st.data())
def test_n8_amounts_keep_the_norm_that_their_counts_have(data: st.DataObject) -> None:
    """Any sums that the events allow, any limited counts: at most H c 2^e in exact rationals, row by row and together."""
    exponent = data.draw(st.integers(-29, 0))
    norm = data.draw(st.integers(2**29, 2**30))
    largest = data.draw(st.integers(1, 2**30))
    events = data.draw(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**32)), min_size=1, max_size=20))
    shares = data.draw(st.lists(st.integers(-1000, 1000), min_size=len(events), max_size=len(events)))
    amounts = [share * count * largest // 1000 for share, count in zip(shares, events, strict=True)]
    counted = limited([[count << -exponent for count in events]], norm)[0]
    result = limit_amounts(np.array(amounts), np.array(events), np.array(counted), exponent).tolist()
    step = Fraction(2) ** exponent
    for amount, count, left, got in zip(amounts, events, counted, result, strict=True):
        assert abs(got) <= largest * left * step
        assert got * amount >= 0
        if left * step == count:
            assert got == amount
        else:
            # The events' mean loses less than a step an event, the product less than one step more.
            assert 0 <= abs(Fraction(amount, count) * left * step) - abs(got) < left * step + 1
    assert sum(got * got for got in result) <= (largest * norm * step) ** 2
