"""privacy/intervals.py and the columns made from it: what holds for every draw. Coverage is in tests/statistical."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import erf, mp, mpf, sqrt

from privacy.grid import Grid
from privacy.intervals import COVERAGE, ratio_interval
from privacy.metrics.base import NoisySums
from privacy.metrics.mean import MeanMetric
from privacy.noise import GaussianNoise
from tests.privacy.cases import CASES

QUANTILE = GaussianNoise(1.0).reach(COVERAGE)
RNG = np.random.default_rng(40)


def fieller(amount: float, count: float, amount_deviation: float, count_deviation: float) -> tuple[mpf, mpf] | None:
    """The ratios r with |amount - r count| <= q sqrt(s_a^2 + r^2 s_c^2), in 50 digits; None where they are no interval."""
    with mp.workdps(50):
        x, y, q = mpf(amount), mpf(count), mpf(QUANTILE)
        u, v = (q * mpf(amount_deviation)) ** 2, (q * mpf(count_deviation)) ** 2
        a = y * y - v
        if a <= 0 or y <= 0:
            return None
        root = sqrt((x * y) ** 2 - a * (x * x - u))
        return (x * y - root) / a, (x * y + root) / a


def test_the_quantile_belongs_to_the_coverage() -> None:
    """95% of a normal distribution lie within it."""
    with mp.workdps(30):
        assert abs(erf(mpf(QUANTILE) / sqrt(2)) - mpf(COVERAGE)) < 1e-15


def test_a_sum_has_the_same_room_on_both_sides() -> None:
    """1.96 deviations each."""
    low, high = NoisySums(np.array([0, 100, -5]), Grid(0), GaussianNoise(10.0)).interval()
    assert low == pytest.approx(np.array([-19.59964, 80.40036, -24.59964]))
    assert high == pytest.approx(np.array([19.59964, 119.59964, 14.59964]))


@pytest.mark.parametrize("count_over_noise", [3.0, 30.0, 1e4, 1e6, 1e8, 1e9])
def test_ratios_are_fiellers(count_over_noise: float) -> None:
    """The width to one part in 1e4 of the exact one, from small counts to 2^32 events under a noise of 4."""
    deviation = 0.4
    count = count_over_noise * deviation
    for ratio in (0.0, 0.3, -0.9):
        low, high = ratio_interval(np.array([ratio * count]), np.array([count]), deviation / 2, deviation, 1e6, QUANTILE)
        exact = fieller(ratio * count, count, deviation / 2, deviation)
        assert exact is not None
        width = float(exact[1] - exact[0])
        assert abs(float(low[0]) - exact[0]) < 1e-4 * width + 2e-16
        assert abs(float(high[0]) - exact[1]) < 1e-4 * width + 2e-16


_WILD = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1), st.integers(0, 62).map(lambda bits: 2**bits))


@CASES
@given(st.lists(st.tuples(_WILD, _WILD), min_size=1, max_size=20), st.floats(1e-3, 1e30), st.integers(-129, 80))
def test_n6_no_noise_gives_a_nan_or_leaves_the_reach(draws: list[tuple[int, int]], scale: float, exponent: int) -> None:
    """Whatever the noisy steps are, counts of 0 and below and the ends of int64 included."""
    amounts = Grid(exponent).to_values(np.array([draw[0] for draw in draws]))
    counts = Grid(-20).to_values(np.array([draw[1] for draw in draws]))
    reach = 10.0
    low, high = ratio_interval(amounts, counts, scale * 2.0**exponent, scale * 2.0**-20, reach, QUANTILE)
    assert (low >= -reach).all()
    assert (high <= reach).all()
    assert (low <= high).all()
    assert (low[counts <= 0] == -reach).all()
    assert (high[counts <= 0] == reach).all()


@CASES
@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.lists(st.tuples(_WILD, _WILD), min_size=1, max_size=20),
    st.floats(0.1, 1e12),
)
def test_a_mean_lies_in_its_interval_and_the_interval_in_the_clip(
    low: float, width: float, draws: list[tuple[int, int]], scale: float
) -> None:
    """clip low <= low <= mean <= high <= clip high, to the last bit, whatever the noisy steps are."""
    metric = MeanMetric(name="m", mean="v", clip=(low, low + width))
    amounts, counts = (np.array([draw[part] for draw in draws]) for part in (0, 1))
    columns = metric.columns(
        [NoisySums(amounts, Grid(-20), GaussianNoise(scale)), NoisySums(counts, Grid(-22), GaussianNoise(scale))], integers=False
    )
    assert set(columns) == {"m", "m_low", "m_high"}
    assert (low <= columns["m_low"]).all()
    assert (columns["m_low"] <= columns["m"]).all()
    assert (columns["m"] <= columns["m_high"]).all()
    assert (columns["m_high"] <= low + width).all()


def test_a_mean_without_a_clear_count_may_be_anything_in_the_clip() -> None:
    """Its interval is the whole clip; without a positive count its value is the middle."""
    metric = MeanMetric(name="m", mean="v", clip=(2.0, 10.0))
    counts = NoisySums(np.array([-5, 0, 1, 19]), Grid(0), GaussianNoise(10.0))
    columns = metric.columns([NoisySums(np.array([7, 7, 7, 7]), Grid(0), GaussianNoise(10.0)), counts], integers=False)
    assert columns["m_low"].tolist() == [2.0] * 4
    assert columns["m_high"].tolist() == [10.0] * 4
    assert columns["m"][:2].tolist() == [6.0, 6.0]


def test_an_interval_is_never_empty_where_something_is_known() -> None:
    """1e5 clear counts: the interval has a width, and the estimate lies inside."""
    amounts, counts = RNG.normal(50, 10, 100_000), RNG.normal(200, 10, 100_000)
    low, high = ratio_interval(amounts, counts, 10.0, 10.0, 1e3, QUANTILE)
    assert (low < amounts / counts).all()
    assert (amounts / counts < high).all()
