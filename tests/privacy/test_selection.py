"""privacy/selection.py: weights and thresholds, in closed form. Draws are in tests/statistical."""

import math

import numpy as np
import pytest
from mpmath import exp, mp, mpf, ncdf

from privacy.gaussian import tail_quantile
from privacy.noise import GaussianNoise
from privacy.plan import SelectionStage, make_plan
from privacy.selection import GRID, NORM, select_keys, selection_weights, threshold
from tests.privacy.exact import chance_that_any_passes
from tests.privacy.plans import budget, release


def _selection(cap: int, epsilon: float = 1.0, delta: float = 1e-6) -> SelectionStage:
    selection = make_plan(budget(epsilon, delta), [release(select={"cap": cap})]).releases[0].selection
    assert selection is not None
    return selection


@pytest.mark.parametrize("cap", [1, 2, 30, 1024, 65_536])
def test_n8_weights_of_a_unit_have_a_norm_of_at_most_1(cap: int) -> None:
    """1/sqrt(d) cut to the grid: exact, positive, and no step less than the norm allows."""
    weights = selection_weights(cap).tolist()
    assert len(weights) == cap + 1
    assert weights[:2] == [0, NORM]
    assert NORM * GRID.step == 1
    for keys, weight in enumerate(weights[1:], start=1):
        assert keys * weight**2 <= NORM**2 < keys * (weight + 1) ** 2
        assert weight > 0


@pytest.mark.parametrize("cap", [1, 2, 5, 1024])
@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-6), (0.1, 1e-10), (20.0, 0.5), (100.0, 1e-6)])
def test_s1_no_number_of_keys_gives_a_unit_away(cap: int, epsilon: float, delta: float) -> None:
    """For each d in 1..cap, the exact chance that any of d keys that only one unit has is shown is within delta.

    Two steps less of the threshold must be too little for some d: it is no looser than its proof and the float margin.
    """
    stage = _selection(cap, epsilon, delta)
    assert stage.delta == pytest.approx(delta / 100)
    chances = [
        (chance_that_any_passes(keys, int(stage.weights[keys]), stage.threshold, stage.scale), keys) for keys in range(1, cap + 1)
    ]
    most, keys = max(chances)
    assert most <= mpf(stage.delta)
    assert most >= mpf(stage.delta) * (1 - mpf(10) ** -6)
    assert chance_that_any_passes(keys, int(stage.weights[keys]), stage.threshold - 2, stage.scale) > mpf(stage.delta)


def test_s1_the_largest_cap() -> None:
    """65,536 keys: the numbers of keys around the one that decides, and 200 others."""
    stage = _selection(65_536)
    tried = np.unique(np.concatenate([np.arange(1, 100), np.geomspace(100, 65_536, 200).astype(int)]))
    for keys in tried.tolist():
        assert chance_that_any_passes(keys, int(stage.weights[keys]), stage.threshold, stage.scale) <= mpf(stage.delta)


@pytest.mark.parametrize("scale", [0.6, 3.0, 40.0])
@pytest.mark.parametrize("delta", [0.3, 0.01, 1e-8])
def test_s1_the_threshold_holds_for_the_discrete_noise_itself(scale: float, delta: float) -> None:
    """Small noise, whose probabilities can be added up value by value, without any bound on tails."""
    weights = selection_weights(40)
    weights[1:] >>= 20  # so that weights are comparable to this noise
    cut = threshold(weights, scale, delta)
    with mp.workdps(30):
        reach = int(60 * scale) + 20
        mass = [exp(-mpf(x * x) / (2 * mpf(scale) ** 2)) for x in range(reach)]
        total = mass[0] + 2 * sum(mass[1:])

        def chance(keys: int, lower: int) -> mpf:
            passes = sum(mass[max(cut - lower - int(weights[keys]), 0) :]) / total
            return 1 - (1 - passes) ** keys

        assert all(cut > weights[keys] for keys in range(1, 41))
        assert max(chance(keys, 0) for keys in range(1, 41)) <= mpf(delta)
        assert max(chance(keys, 3) for keys in range(1, 41)) > mpf(delta), "three steps less must be too little"


def test_a_larger_cap_never_lowers_the_threshold() -> None:
    """Whoever allows more keys needs more of the noise below the threshold."""
    stages = [_selection(cap) for cap in (1, 2, 5, 30, 1024, 65_536)]
    assert [stage.threshold for stage in stages] == sorted(stage.threshold for stage in stages)
    assert stages[0].threshold < stages[-1].threshold


@pytest.mark.parametrize("keys", [1, 2, 30, 1024, 5000])
@pytest.mark.parametrize("probability", [0.5, 0.95, 0.05])
def test_units_needed_is_the_inverse_of_the_chance_to_be_shown(keys: int, probability: float) -> None:
    """So many units, each with this many keys, are shown with this probability: the closed form in 50 digits."""
    stage = _selection(1024)
    units = stage.units_needed(probability, keys)
    weight = int(stage.weights[min(keys, 1024)])
    with mp.workdps(50):
        chance = ncdf(-(mpf(stage.threshold) - mpf(units) * weight) / mpf(stage.scale))
    assert chance == pytest.approx(probability, rel=1e-6)
    # The same number from the weights 1/sqrt(d): the grid costs nothing that can be seen.
    ideal = (stage.threshold - stage.scale * tail_quantile(probability)) / 2**29 * math.sqrt(min(keys, 1024))
    assert units == pytest.approx(ideal, rel=1e-6)


def test_at_least_one_unit_is_needed() -> None:
    """Also where the noise alone would do."""
    assert _selection(1, epsilon=0.5, delta=0.9).units_needed(1e-9, 1) == 1.0


def test_s2_keys_without_weight_are_never_shown() -> None:
    """0 of 1e5 keys without weight at a threshold that noise passes with certainty; with any weight, all of them."""
    nobody = np.zeros(100_000, np.int64)
    assert select_keys(nobody, GaussianNoise(10.0), -(10**6))[0].size == 0
    assert select_keys(nobody + 1, GaussianNoise(10.0), -(10**6))[0].size == 100_000
    assert select_keys(nobody - 1, GaussianNoise(10.0), -(10**6))[0].size == 0


def test_selected_rows_ascend() -> None:
    """Row numbers, in order, of exactly the keys that are far above the threshold."""
    weights = np.array([0, 10**9, 5, 10**9, 0, 10**9])
    kept = select_keys(weights, GaussianNoise(10.0), 10**6)[0]
    assert kept.dtype == np.int64
    assert kept.tolist() == [1, 3, 5]
    assert select_keys(np.zeros(0, np.int64), GaussianNoise(10.0), 5)[0].tolist() == []


def test_n5_thresholds_beyond_int64_keep_nothing_and_fail_nowhere() -> None:
    """A tiny budget asks for more noise than int64 holds: nothing is shown, nothing wraps."""
    stage = _selection(1024, epsilon=1e-9, delta=1e-12)
    assert stage.threshold > 2**63
    assert select_keys(np.full(1000, 2**62), stage.noise, stage.threshold)[0].size == 0
