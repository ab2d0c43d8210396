"""privacy/selection.py with its noise: threats S1 and S2, on draws. The closed forms are in tests/privacy."""

import math

import numpy as np
import pytest
from scipy import stats

from privacy.noise import GaussianNoise
from privacy.plan import SelectionStage, make_plan
from privacy.selection import select_keys
from tests.privacy.plans import budget, release
from tests.statistical.checks import hits_fit

KEYS = 100_000
# A hundredth of delta goes to selection: delta_sel is nearly 0.01.
DELTA = 0.999
CAP = 1024


def _selection(cap: int) -> SelectionStage:
    selection = make_plan(budget(1.0, DELTA), [release(select={"cap": cap}, metrics=[{"name": "n", "count": "units"}])]).releases[
        0
    ]
    assert selection.selection is not None
    return selection.selection


def test_s1_a_key_of_one_unit_is_shown_as_rarely_as_delta_says() -> None:
    """D = 1, one unit per key, 1e5 keys: the share that is kept fits delta_sel = 0.01, from both sides.

    False failure: 1e-9. Power: with a threshold that is 0.15 deviations lower, 1.5% would be kept; that as few as 1.2% are, which
    the check lets through, has a probability below 1e-12. The check must reject such a threshold and one that is as much higher.
    """
    stage = _selection(1)
    assert stage.delta == pytest.approx(DELTA / 100)
    weights = np.full(KEYS, stage.weights[1])

    def kept(threshold: int) -> int:
        return len(select_keys(weights, stage.noise, threshold)[0])

    assert hits_fit(kept(stage.threshold), KEYS, stage.delta)
    assert not hits_fit(kept(stage.threshold - int(0.15 * stage.scale)), KEYS, stage.delta)
    assert not hits_fit(kept(stage.threshold + int(0.15 * stage.scale)), KEYS, stage.delta)


def _chance(stage: SelectionStage, weight: int, factor: float = 1.0) -> float:
    """That a key of this weight is shown, under `factor` times the planned noise."""
    return float(stats.norm.sf((stage.threshold - weight) / (stage.scale * factor)))


@pytest.mark.parametrize("keys", [1, 2, 5, 30, CAP])
def test_s1_keys_are_shown_as_often_as_the_closed_form_says(keys: int) -> None:
    """D = 1,024, units with `keys` keys each, 1 to 5 units per key and as many as half and nine tenths of keys need.

    P[shown] = 1 - Phi((t - u w(d)) / s), 2e4 keys for each number of units, all in one array, as in a run. False failure: 1e-9 a
    decision. Power: see the next test.
    """
    stage = _selection(CAP)
    enough = [math.ceil(stage.units_needed(probability, keys)) for probability in (0.5, 0.9)]
    counts = sorted({1, 2, 3, 4, 5, *enough})
    units = np.tile(counts, 20_000)
    kept = units[select_keys(units * stage.weights[keys], stage.noise, stage.threshold)[0]]
    assert 0.5 < _chance(stage, enough[1] * int(stage.weights[keys])) < 1 - 1e-9
    for count in counts:
        assert hits_fit(int((kept == count).sum()), 20_000, _chance(stage, count * int(stage.weights[keys])))


def test_s1_the_closed_form_tells_a_wrong_scale_and_a_wrong_weight() -> None:
    """Keys whose weight is two deviations below the threshold: 2.3% are shown; 5% off in noise or weight must be rejected.

    False failure: 1e-9. Power: 5% of noise move the chance by 0.5%, eleven deviations of 1e5 draws, 5% of weight by more.
    """
    stage = _selection(CAP)
    weight = stage.threshold - int(2 * stage.scale)
    shown = len(select_keys(np.full(KEYS, weight), stage.noise, stage.threshold)[0])
    assert hits_fit(shown, KEYS, _chance(stage, weight))
    for factor in (0.95, 1.05):
        assert not hits_fit(shown, KEYS, _chance(stage, weight, factor))
        assert not hits_fit(shown, KEYS, _chance(stage, int(weight * factor)))


def test_units_needed_are_enough_as_often_as_promised() -> None:
    """A key with so many units is shown with 50% and 95%; with the units for 94% or 96% the check must fail.

    False failure: 1e-9. Power: a deviation is 0.07% at 95% of 1e5 draws, so 1% is 14 of them.
    """
    stage = _selection(CAP)
    for probability in (0.5, 0.95):
        for keys in (1, 30):
            weight = int(stage.units_needed(probability, keys) * int(stage.weights[keys]))
            shown = len(select_keys(np.full(KEYS, weight), stage.noise, stage.threshold)[0])
            assert hits_fit(shown, KEYS, probability)
            assert not hits_fit(shown, KEYS, probability - 0.02)
            assert not hits_fit(shown, KEYS, probability + 0.02)


def test_s2_keys_that_nobody_may_see_are_never_shown() -> None:
    """0 of 1e6 keys without weight, although the noise of half of them is above the threshold.

    False failure: none for these; 1e-9 for the 2e4 keys with weight between them, of which half must be shown.
    """
    weights = np.zeros(1_020_000, np.int64)
    weights[::51] = 1
    kept = select_keys(weights, GaussianNoise(2.0**33), 0)[0]
    assert (weights == 0).sum() == 1_000_000
    assert (weights[kept] == 1).all()
    assert hits_fit(len(kept), 20_000, 0.5)
