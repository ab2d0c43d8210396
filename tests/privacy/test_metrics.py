"""privacy/metrics: what a metric may be called and clipped to, its parts, and its published columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from privacy.grid import Grid
from privacy.metrics import KINDS
from privacy.metrics.base import Bounds, NoisySums, value_columns
from privacy.metrics.count import CountMetric
from privacy.metrics.mean import MeanMetric
from privacy.metrics.sum import SumMetric
from privacy.tallies import Amounts, Events, Values
from privacy.vectors import CentredVector, CountVector, SumVector, UnitVector
from tests.privacy.cases import CASES
from tests.privacy.plans import release

BOUNDS = Bounds(keys_per_unit=30, rows_per_key=5)


@CASES
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(-29, 40), st.floats(0.01, 1e15))
def test_integers_are_rounded_outwards(steps: list[int], exponent: int, scale: float) -> None:
    """Value, low and high are int64, in order, around what the floats say; nothing fails at the ends of the type."""
    sums = NoisySums(np.array(steps, np.int64), Grid(exponent), scale)
    whole, exact = value_columns("n", sums, integers=True), value_columns("n", sums, integers=False)
    assert list(whole) == list(exact) == ["n", "n_low", "n_high"]
    for column in whole.values():
        assert column.dtype == np.int64
    for column in exact.values():
        assert column.dtype == np.float64
    assert (whole["n_low"] <= whole["n"]).all()
    assert (whole["n"] <= whole["n_high"]).all()
    fits = abs(exact["n"]) + 2 * sums.deviation < 2.0**52
    assert (whole["n_low"] <= exact["n_low"])[fits].all()
    assert (whole["n_high"] >= exact["n_high"])[fits].all()
    assert (whole["n_low"] > exact["n_low"] - 1)[fits].all()
    assert (whole["n_high"] < exact["n_high"] + 1)[fits].all()
    assert (abs(whole["n"] - exact["n"]) <= 0.5)[fits].all()


def test_the_parts_of_each_metric() -> None:
    """Which vectors noise is added to, on which tallies, with weights that add up to 1."""
    count = CountMetric(name="n", count="events").parts(BOUNDS)
    units = CountMetric(name="n", count="units").parts(BOUNDS)
    total = SumMetric(name="n", sum="v", clip=(-3.0, 10.0)).parts(BOUNDS)
    mean = MeanMetric(name="n", mean="v", clip=(-3.0, 10.0)).parts(BOUNDS)
    assert [part.vector for part in count] == [CountVector(Events(), 30, 5)]
    assert [part.vector for part in units] == [UnitVector(30)]
    assert [part.vector for part in total] == [SumVector("v", -3.0, 10.0, 30, 5)]
    counts = CountVector(Values("v"), 30, 5)
    assert [part.vector for part in mean] == [CentredVector("v", -3.0, 10.0, counts), counts]
    assert mean[0].vector.tallies[1:] == (Values("v"),)
    (tally,) = total[0].vector.tallies
    assert isinstance(tally, Amounts)
    assert (tally.low, tally.high, tally.middle) == (-3.0, 10.0, 0.0)
    for parts in (count, units, total, mean):
        assert sum(part.weight for part in parts) == pytest.approx(1)
        assert len({part.label for part in parts}) == len(parts)


def test_a_count_is_an_integer_whatever_the_column_is() -> None:
    """Counts round, sums only where their column holds integers, means never."""
    sums = NoisySums(np.array([3]), Grid(-1), 1.0)
    assert CountMetric(name="n", count="units").columns([sums], integers=False)["n"].dtype == np.int64
    total = SumMetric(name="n", sum="v", clip=(0.0, 1.0))
    assert total.columns([sums], integers=False)["n"].tolist() == [1.5]
    assert total.columns([sums], integers=True)["n"].dtype == np.int64
    mean = MeanMetric(name="n", mean="v", clip=(0.0, 1.0))
    assert mean.columns([sums, sums], integers=True)["n"].dtype == np.float64


@pytest.mark.parametrize(
    "clip", [[float("nan"), 1], [0, float("inf")], [10, 2], [3, 3], [0, 1e31], [0, 1e-31], [1e12, 1e12 + 1e-3], [0], [0, 1, 2]]
)
def test_n6_clips_that_bound_nothing_are_refused(clip: list[float]) -> None:
    """NaN, infinite, reversed, empty, out of range, too narrow for a float, or of the wrong length."""
    for kind in ("sum", "mean"):
        with pytest.raises(ValidationError):
            release(metrics=[{"name": "m", kind: "v", "clip": clip}])
    with pytest.raises(ValidationError):
        release(metrics=[{"name": "m", "sum": "v"}])


@pytest.mark.parametrize("name", ["", "1a", "A", "a b", "a-b", "é", "_a", "a.b"])
def test_names_that_make_no_column_are_refused(name: str) -> None:
    """Of metrics and of releases."""
    with pytest.raises(ValidationError):
        release(metrics=[{"name": name, "count": "events"}])
    with pytest.raises(ValidationError):
        release(name)


def test_a_metric_is_of_exactly_one_kind() -> None:
    """None, two, or an unknown one are refused, and what is unknown is an error."""
    assert KINDS == ("count", "sum", "mean")
    for metric in ({}, {"count": "events", "mean": "v"}, {"median": "v"}, {"count": "rows"}, {"count": "events", "clip": [0, 1]}):
        with pytest.raises(ValidationError):
            release(metrics=[{"name": "m", **metric}])
