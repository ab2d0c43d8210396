"""Any k rows as the privacy unit: what they add to a selection and to each stage, in exact arithmetic."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from mpmath import mp, mpf

from privacy.bounds import UnitBounds
from privacy.plan import Plan, PlanError, SelectionStage, VectorStage, make_plan
from privacy.release import Release
from privacy.selection import NORM, row_weights
from privacy.tallies import Amounts, Squares, Values
from privacy.vectors import UnitRows
from tests.privacy.exact import DIGITS, chance_that_any_passes
from tests.privacy.plans import budget, release

ROWS = [1, 2, 7, 1000]
BUDGETS = [(1.0, 1e-6), (0.1, 1e-10), (20.0, 0.5), (100.0, 1e-6)]
METRICS = [
    {"name": "events", "count": "events"},
    {"name": "total", "sum": "v", "clip": [-3, 10]},
    {"name": "mean", "mean": "v", "clip": [0.1, 9.7]},
    {"name": "spread", "variance": "v", "clip": [0.1, 9.7]},
]


def unbounded(**options: object) -> Release:
    """A release without bounds."""
    return release(**{"metrics": METRICS} | options).model_copy(update={"bounds": None})  # type: ignore[arg-type]


def _selection(rows: int, epsilon: float, delta: float) -> SelectionStage:
    selection = make_plan(budget(epsilon, delta), [unbounded()], rows).releases[0].selection
    assert selection is not None
    return selection


@pytest.mark.parametrize("rows", [*ROWS, 65_536])
def test_n8_weights_of_any_k_rows_have_a_norm_of_at_most_1(rows: int) -> None:
    """All k in one key come to no more than 1, and would with one step more a row; spread, to less: n_1^2 + .. <= k^2."""
    weights, most = (list(map(int, found)) for found in row_weights(rows))
    assert len(weights) == 2
    nothing, weight = weights
    assert (nothing, weight > 0) == (0, True)
    assert rows * weight <= NORM < rows * (weight + 1)
    # Of d keys that k rows alone have, each of the d - 1 others takes at least one row.
    assert most == [0] + [(rows - keys + 1) * weight for keys in range(1, rows + 1)]


def _splits(rows: int, most: int) -> Iterator[tuple[int, ...]]:
    """The ways to spread so many rows over keys, the largest part first, none above `most`."""
    if rows == 0:
        yield ()
    for largest in range(min(rows, most), 0, -1):
        for rest in _splits(rows - largest, largest):
            yield (largest, *rest)


def test_the_fixture_holds_every_split() -> None:
    """The numbers of partitions of 1, 2, 7 and 10."""
    assert [len(list(_splits(rows, rows))) for rows in (1, 2, 7, 10)] == [1, 2, 15, 42]
    assert set(_splits(4, 4)) == {(4,), (3, 1), (2, 2), (2, 1, 1), (1, 1, 1, 1)}


def _chance(stage: SelectionStage, split: Sequence[int], lower: int = 0) -> mpf:
    """A bound on the probability that any key of the split is shown, if the threshold were `lower` steps lower."""
    with mp.workdps(DIGITS):
        none = mpf(1)
        for part, keys in Counter(split).items():
            none *= 1 - chance_that_any_passes(keys, part * int(stage.weights[1]), stage.threshold - lower, stage.scale)
        return 1 - none


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
@pytest.mark.parametrize("rows", [1, 2, 7, 12])
def test_s1_no_split_of_k_rows_gives_them_away(rows: int, epsilon: float, delta: float) -> None:
    """Every way to spread up to k rows over keys that nobody else has: the chance that any is shown is within delta."""
    stage = _selection(rows, epsilon, delta)
    assert stage.delta == pytest.approx(delta / 100)
    splits = [split for size in range(1, rows + 1) for split in _splits(size, size)]
    assert len(splits) >= {1: 1, 2: 3, 7: 44, 12: 271}[rows]
    chances = {split: _chance(stage, split) for split in splits}
    most, split = max((chance, split) for split, chance in chances.items())
    assert most <= mpf(stage.delta)
    if rows <= 2:  # the proof takes each key for as full as the fullest, which is exact here
        assert most >= mpf(stage.delta) * (1 - mpf(10) ** -6)
        assert _chance(stage, split, lower=2) > mpf(stage.delta)
    assert _chance(stage, split, stage.threshold // 5) > mpf(stage.delta)


def _bound(stage: SelectionStage, most: Sequence[int], lower: int = 0) -> mpf:
    """The largest chance over d, if each of d keys had what the fullest of them can have: above that of every split."""
    return max(
        chance_that_any_passes(keys, int(weight), stage.threshold - lower, stage.scale)
        for keys, weight in enumerate(most[1:], start=1)
    )


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
@pytest.mark.parametrize("rows", ROWS)
def test_s1_the_threshold_is_that_of_its_proof(rows: int, epsilon: float, delta: float) -> None:
    """Of d keys none has more than k - d + 1 rows: if all had so many, the chance would be within delta, which covers all splits.

    Two steps less of the threshold must be too little for some d: it is no looser than its proof and the float margin.
    """
    stage, most = _selection(rows, epsilon, delta), row_weights(rows)[1].tolist()
    assert mpf(stage.delta) * (1 - mpf(10) ** -6) <= _bound(stage, most) <= mpf(stage.delta)
    assert _bound(stage, most, lower=2) > mpf(stage.delta)


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
@pytest.mark.parametrize("rows", [1000, 65_536])
def test_s1_the_worst_splits_of_many_rows(rows: int, epsilon: float, delta: float) -> None:
    """One full key and d - 1 of one row each, and d even keys, for 50 d: within delta; at two thirds of the threshold not."""
    stage = _selection(rows, epsilon, delta)
    tried = np.unique(np.concatenate([np.arange(1, 20), np.geomspace(1, rows, 40).astype(int)])).tolist()
    assert {1, rows} <= set(tried)
    splits = [[rows - keys + 1] + [1] * (keys - 1) for keys in tried]
    splits += [[rows // keys + (key < rows % keys) for key in range(keys)] for keys in tried]
    assert {sum(split) for split in splits} == {rows}
    assert max(_chance(stage, split) for split in splits) <= mpf(stage.delta)
    assert max(_chance(stage, split, stage.threshold // 3) for split in splits) > mpf(stage.delta)


# A value of every kind: the ends of the clip and beyond, halves of steps, what is no number.
AWKWARD = [0.0, -0.0, 5e-324, 1 / 3, 1e308, -1e308, np.inf, -np.inf, np.nan]


def _row_amounts(stage: VectorStage, values: Sequence[float]) -> list[int]:
    """What single rows add to a stage, each a unit of its own with one key."""
    given = np.array(values)
    usable = np.isfinite(given)
    tallies = {}
    for tally in stage.vector.tallies:
        if isinstance(tally, Amounts | Squares):
            tallies[tally] = tally.steps(given, usable)
        else:
            tallies[tally] = usable.astype(np.int64) if isinstance(tally, Values) else np.ones(len(given), np.int64)
    rows = UnitRows(np.arange(len(given)), tallies, len(given))
    bounded = stage.vector.bounded(rows).tolist()
    # A row is within the bounds by itself, so it counts in full: as it is, or in the steps of its grid.
    first = tallies[stage.vector.tallies[0]].tolist()
    each = 1 if isinstance(stage.vector.tallies[0], Amounts | Squares) else 1 << -stage.grid.exponent
    assert bounded == [value * each for value in first]
    return bounded


def _random_plan(rng: np.random.Generator, rows: int) -> tuple[Plan, list[float]]:
    """A plan with random clips and metrics, and values around the clips."""
    metrics, values = [{"name": "events", "count": "events"}], list(AWKWARD)
    for number in range(3):
        low = float(rng.choice([-1, 0, 1]) * np.exp(rng.uniform(-10, 10)))
        high = low + float(np.exp(rng.uniform(-4, 12)))
        metrics += [
            {"name": f"sum{number}", "sum": "v", "clip": [low, high]},
            {"name": f"mean{number}", "mean": "v", "clip": [low, high]},
            {"name": f"spread{number}", "variance": "v", "clip": [low, high]},
        ]
        values += [low, high, low / 2 + high / 2, *rng.uniform(2 * low - high, 2 * high - low, 5)]
    return make_plan(budget(), [unbounded(metrics=metrics)], rows), values


@pytest.mark.parametrize("rows", [*ROWS, 65_536])
def test_n6_n7_n8_norms_cover_what_any_k_rows_add(rows: int) -> None:
    """40 plans: each stage's norm is k times the most that one row adds, exactly, whatever the row brings.

    k rows add at most their sum to a stage, in the triangle inequality, whether they share keys or not.
    """
    rng = np.random.default_rng(rows)
    for _ in range(40):
        plan, values = _random_plan(rng, rows)
        (planned,) = plan.releases
        assert planned.selection is not None
        assert planned.selection.norm >= rows * int(planned.selection.weights[1])
        # Events; three centred sums, which sum, mean and variance share; the variances' squares; one count for all nine.
        assert len(planned.vectors) == 1 + 3 + 3 + 1
        for stage in planned.vectors:
            most = max(map(abs, _row_amounts(stage, values)))
            assert most > 0
            assert stage.norm == rows * most, stage.name


def test_n8_norms_in_the_units_of_the_values() -> None:
    """7 rows: 7 events; 70 of a sum with clip [-3, 10]; 7 times half the clip's width of a mean, half its square for a variance.

    All to the grid.
    """
    plan = make_plan(budget(), [unbounded()], 7)
    bounds = {stage.name: Fraction(stage.norm) * Fraction(2) ** stage.grid.exponent for stage in plan.stages}
    half = Fraction(9.7) / 2 - Fraction(0.1) / 2
    norms = {"select": 1, "events": 7, "total": 70, "mean.sum+spread.sum": 7 * half, "mean.count+spread.count": 7}
    for name, exact in (norms | {"spread.squares": 7 * half**2 / 2}).items():
        assert abs(bounds.pop(name) - exact) <= exact * Fraction(1, 2**25)
    assert not bounds


@pytest.mark.parametrize("rows", ROWS)
def test_k_rows_are_planned_like_a_unit_with_one_key_of_k_rows(rows: int) -> None:
    """Same shares, norms and noise, of which other tests prove what they cost; only the selection's weights are others."""
    plan = make_plan(budget(), [unbounded(), unbounded(name="second", public=True)], rows)
    bounded = {"keys_per_unit": 1, "rows_per_key": rows, "metrics": METRICS}
    same = make_plan(budget(), [release(**bounded), release("second", public=True, **bounded)])
    assert (plan.rows, same.rows) == (rows, None)
    assert (plan.mu, plan.delta_selection) == (same.mu, same.delta_selection)
    assert len(plan.stages) == 1 + 2 * 5
    for mine, other in zip(plan.stages, same.stages, strict=True):
        if isinstance(mine, SelectionStage):
            assert isinstance(other, SelectionStage)
            assert (mine.cap, mine.weights.tolist()) == (1, row_weights(rows)[0].tolist())
            mine = replace(mine, cap=other.cap, threshold=other.threshold, weights=other.weights)
        assert mine == other
    assert {planned.bounds for planned in plan.releases} == {UnitBounds(keys_per_unit=1, rows_per_key=rows)}


def test_more_rows_need_more_events_to_appear() -> None:
    """Rows that are protected together hide in a crowd of as many times the size, or more."""
    needed = [_selection(rows, 1.0, 1e-6).units_needed(0.5, 1) / rows for rows in ROWS]
    assert needed[0] > 10
    assert all(more >= 0.999 * less for less, more in itertools.pairwise(needed))


def test_s7_without_bounds_and_without_rows_there_is_no_plan() -> None:
    """Bounds are declared, or follow from the number of rows; there is no third way."""
    with pytest.raises(PlanError, match="second has no bounds; add them"):
        make_plan(budget(), [release(), unbounded(name="second")])
    assert make_plan(budget(), [unbounded(), unbounded(name="second")], 1).rows == 1
