"""privacy/plan.py: shares, multipliers and deltas, against the closed form in 50 digits and against dp_accounting."""

import dataclasses
import math
import pickle
from fractions import Fraction
from typing import Any

import dp_accounting
import pytest
from dp_accounting import pld
from mpmath import findroot, mp, mpf

from privacy.gaussian import COLLISION, LEAST_DELTA
from privacy.plan import Plan, PlanError, make_plan
from privacy.release import Budget, Release
from tests.privacy.exact import closed_form_delta
from tests.privacy.plans import ALL_METRICS, budget, release


def _sums(*shares: float | None) -> list[dict[str, Any]]:
    """Sums with these shares, None leaves it out; of columns of their own, so that none shares a stage with another."""
    return [
        {"name": f"c{number}", "sum": f"v{number}", "clip": [0, 1]} | ({} if share is None else {"share": share})
        for number, share in enumerate(shares)
    ]


def _shares(*releases: Release) -> dict[str, float]:
    """The share of every stage, as <release>.<stage>."""
    plan = make_plan(budget(), releases)
    return {f"{planned.name}.{stage.name}": stage.share for planned in plan.releases for stage in planned.stages}


SHARING: list[dict[str, Any]] = [
    {"name": "a", "mean": "v", "clip": [0, 10]},
    {"name": "b", "variance": "v", "clip": [0, 10], "share": 2},
    {"name": "c", "stddev": "v", "clip": [0, 10], "share": 0.5},
]

PLANS = {
    "one public sum": [release(public=True, metrics=_sums(1))],
    "all metrics, selected": [release()],
    "two releases": [release("a", share=2), release("b", public=True, share=0.5, keys_per_unit=3)],
    "uneven": [release("a", select={"share": 0.1, "cap": 5}, metrics=_sums(1, 10, 100)), release("b", share=7)],
    "shared": [release("a", metrics=SHARING), release("b", public=True, metrics=[*_sums(3), *SHARING], share=2)],
}


def test_four_equal_stages_have_the_known_multiplier() -> None:
    """At epsilon 1, half of delta 1e-6 for the noise: 8.73, the number in design.md."""
    plan = make_plan(budget(1.0, 5e-7 + COLLISION), [release(public=True, metrics=_sums(1, 1, 1, 1))])
    assert len(plan.stages) == 4
    assert plan.delta_selection == 0
    for stage in plan.stages:
        assert stage.multiplier == pytest.approx(8.73, abs=0.005)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-9), (1.0, 1e-6), (4.0, 1e-3)])
def test_multipliers_compose_to_the_mu_of_the_closed_form(name: str, epsilon: float, delta: float) -> None:
    """The sum of 1/z^2 is mu^2; delta(mu) is within what is left for noise; 0.1% less noise would be too little."""
    plan = make_plan(budget(epsilon, delta), PLANS[name])
    square = sum((Fraction(stage.norm) / Fraction(stage.scale)) ** 2 for stage in plan.stages)
    assert float(square) == pytest.approx(plan.mu**2, rel=1e-11)
    assert square <= Fraction(plan.mu) ** 2
    for stage in plan.stages:
        assert stage.multiplier == pytest.approx(1 / (plan.mu * math.sqrt(stage.share)), rel=1e-11)
        assert stage.deviation == stage.scale * 2.0**stage.grid.exponent
    left = mpf(delta) - mpf(plan.delta_selection)
    with mp.workdps(50):
        exact = findroot(lambda mu: closed_form_delta(epsilon, mu) / left - 1, mpf(plan.mu), tol=1e-20)
    assert mpf(plan.mu) < exact
    assert exact / mpf(plan.mu) < 1.001
    assert closed_form_delta(epsilon, plan.mu) <= left < closed_form_delta(epsilon, plan.mu * 1.001)


def _accounted(plan: Plan, factor: float = 1.0) -> float:
    """Epsilon by dp_accounting's privacy loss distributions of all stages, the selections' delta aside."""
    accountant = pld.PLDAccountant(value_discretization_interval=plan.epsilon * 3e-5)
    for stage in plan.stages:
        accountant.compose(dp_accounting.GaussianDpEvent(stage.multiplier * factor))
    return float(accountant.get_epsilon(plan.delta - plan.delta_selection))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(("epsilon", "delta"), [(0.3, 1e-8), (1.0, 1e-6), (3.0, 1e-5)])
def test_an_accountant_of_another_make_agrees(name: str, epsilon: float, delta: float) -> None:
    """The whole run, selections included: epsilon to 0.1%."""
    plan = make_plan(budget(epsilon, delta), PLANS[name])
    assert (plan.delta_selection > 0) == any(stage.name == "select" for stage in plan.stages)
    assert _accounted(plan) == pytest.approx(epsilon, rel=1e-3)


def test_the_other_accountant_tells_1_percent() -> None:
    """The comparison above would fail with 1% less or more of the noise."""
    plan = make_plan(budget(1.0, 1e-6), PLANS["uneven"])
    assert _accounted(plan, 0.99) > 1.005
    assert _accounted(plan, 1.01) < 0.995


def test_an_omitted_share_is_1() -> None:
    """Of releases, selections and metrics."""
    written = release("a", share=1, select={"share": 1}, metrics=_sums(1, 2))
    omitted = release("a", metrics=_sums(None, 2))
    assert _shares(written, release("b")) == _shares(omitted, release("b", share=1))


def test_shares_are_relative_weights() -> None:
    """Only ratios matter, within a release and between releases; together they are 1."""
    once = _shares(release("a", share=1, metrics=_sums(1, 3)), release("b", share=3, public=True, metrics=_sums(2)))
    assert once == pytest.approx({"a.select": 0.05, "a.c0": 0.05, "a.c1": 0.15, "b.c0": 0.75})
    many = _shares(
        release("a", share=10, select={"share": 7}, metrics=_sums(7, 21)),
        release("b", share=30, public=True, metrics=_sums(0.1)),
    )
    assert many == pytest.approx(once)
    assert sum(many.values()) == pytest.approx(1, abs=1e-14)


def test_a_mean_divides_its_share_between_its_parts() -> None:
    """Its sum and its count together have the share of the metric."""
    shares = _shares(release(public=True, metrics=[*_sums(1), {"name": "m", "mean": "v", "clip": [0, 1], "share": 3}]))
    assert shares["first.m.sum"] + shares["first.m.count"] == pytest.approx(0.75)
    assert min(shares["first.m.sum"], shares["first.m.count"]) > 0.1


def _apart(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same metrics, each of a column of its own."""
    return [{key: metric["name"] if value == "v" else value for key, value in metric.items()} for metric in metrics]


def test_metrics_of_one_column_and_clip_share_their_stages() -> None:
    """One stage a vector: it is named after all that need it, has the sum of their shares, and each of them has it."""
    planned = make_plan(budget(), [release(public=True, metrics=SHARING)]).releases[0]
    total, count, squares = planned.vectors
    assert (total.name, count.name, squares.name) == ("a.sum+b.sum+c.sum", "a.count+b.count+c.count", "b.squares+c.squares")
    assert total.share == pytest.approx((2 / 3 + 2 * 0.4 + 0.5 * 0.4) / 3.5, rel=1e-14)
    assert count.share == pytest.approx((1 / 3 + 2 * 0.2 + 0.5 * 0.2) / 3.5, rel=1e-14)
    assert squares.share == pytest.approx((2 * 0.4 + 0.5 * 0.4) / 3.5, rel=1e-14)
    assert [part.stages for part in planned.metrics] == [(total, count), (squares, total, count), (squares, total, count)]


def test_what_is_shared_has_less_noise_than_each_would_have_alone() -> None:
    """As accurate as the draws of columns apart would be together: 1/scale^2 adds up, for the same mu. No stage is worse."""
    shared, apart = (make_plan(budget(), [release(metrics=metrics)]) for metrics in (SHARING, _apart(SHARING)))
    assert shared.mu == pytest.approx(apart.mu, rel=1e-9)
    assert (len(shared.stages), len(apart.stages)) == (1 + 3, 1 + 2 + 3 + 3)
    scales = {stage.name: stage.scale for stage in apart.stages}
    for stage in shared.stages:
        alone = [scales.pop(name) for name in stage.name.split("+")]
        assert 1 / stage.scale**2 == pytest.approx(sum(1 / scale**2 for scale in alone), rel=1e-8)
        assert stage.scale < 0.9 * min(alone) or stage.name == "select"
    assert not scales


def test_one_metric_twice_is_one_stage() -> None:
    """Under both names; its share is that of both."""
    metrics = [{"name": "a", "count": "events"}, {"name": "b", "count": "events", "share": 3}, {"name": "c", "count": "units"}]
    assert _shares(release(public=True, metrics=metrics)) == pytest.approx({"first.a+b": 0.8, "first.c": 0.2})


@pytest.mark.parametrize("other", [{"clip": [0, 10.5]}, {"clip": [-1e-9, 10]}, {"mean": "w"}])
def test_another_clip_or_column_shares_nothing_but_the_count_of_the_same_values(other: dict[str, Any]) -> None:
    """Values less another middle, or of another column, are other sums."""
    first = {"name": "a", "mean": "v", "clip": [0, 10]}
    found = _shares(release(public=True, metrics=[first, first | {"name": "b"} | other]))
    counts = ["first.a.count", "first.b.count"] if "mean" in other else ["first.a.count+b.count"]
    assert sorted(found) == sorted(["first.a.sum", "first.b.sum", *counts])


def test_nothing_is_shared_between_releases_or_kinds_of_vectors() -> None:
    """Each release has its bounds and its keys; a sum of another clip is not a mean's sum, and events are not values."""
    metrics = [
        {"name": "n", "count": "events"},
        {"name": "s", "sum": "v", "clip": [-5, 6]},
        {"name": "m", "mean": "v", "clip": [-5, 5]},
    ]
    plan = make_plan(budget(), [release("a", public=True, metrics=metrics), release("b", public=True, metrics=metrics)])
    assert [stage.name for stage in plan.stages] == ["n", "s", "m.sum", "m.count"] * 2


def test_selections_get_a_hundredth_of_delta_by_share() -> None:
    """Divided by the stages' shares; none with public keys; the threshold is that of this delta."""
    plan = make_plan(budget(1.0, 1e-6), [release("a", share=3), release("b", share=1), release("c", share=5, public=True)])
    assert plan.delta_selection == pytest.approx(1e-8, rel=1e-12)
    first, second, third = plan.releases
    assert third.selection is None
    assert third.cap is None
    assert first.selection is not None
    assert second.selection is not None
    assert first.selection.delta == pytest.approx(0.75e-8, rel=1e-9)
    assert second.selection.delta == pytest.approx(0.25e-8, rel=1e-9)
    public = make_plan(budget(1.0, 1e-6), [release(public=True)])
    assert public.delta_selection == 0
    assert closed_form_delta(1.0, public.mu) == pytest.approx(1e-6, rel=1e-4)
    assert closed_form_delta(1.0, plan.mu) == pytest.approx(0.99e-6, rel=1e-4)


def test_every_stage_that_a_release_declares_is_planned() -> None:
    """The stages are those of the metrics' parts, in order, after the selection: none is left out of the composition."""
    plan = make_plan(budget(), [release("a"), release("b", public=True)])
    spread = ["spread.squares+root.squares", "spread.sum+root.sum"]
    names = ["events", "units", "total.sum+mean.sum", "total.count+mean.count+spread.count+root.count", *spread]
    assert [stage.name for stage in plan.releases[0].stages] == ["select", *names]
    assert [stage.name for stage in plan.releases[1].stages] == names
    assert len(plan.stages) == 13
    assert plan.stages == (*plan.releases[0].stages, *plan.releases[1].stages)
    for planned in plan.releases:
        metrics = {part.metric.name: part for part in planned.metrics}
        for name, part in metrics.items():
            # A sum of the column and clip of a mean is made from the mean's vectors.
            metric = metrics["mean"].metric if name == "total" else part.metric
            vectors = [piece.vector for piece in metric.parts(planned.release.bounds.unit)]
            assert [stage.vector for stage in part.stages] == vectors
            assert [(stage.norm, stage.grid) for stage in part.stages] == [(vector.norm, vector.grid) for vector in vectors]
            assert set(part.stages) <= set(planned.vectors)
        assert set(planned.vectors) == {stage for part in planned.metrics for stage in part.stages}
        assert len(set(planned.tallies)) == len(planned.tallies)
        assert set(planned.tallies) == {tally for stage in planned.vectors for tally in stage.vector.tallies}


def test_the_plan_is_pure() -> None:
    """Equal inputs give equal plans, to the last bit; a plan can be pickled, and cannot be changed."""
    config = [release("a", select={"cap": 7}), release("b", public=True)]
    plan = make_plan(budget(), config)
    again = make_plan(budget(), [Release.model_validate(one.model_dump(by_alias=True, exclude_unset=True)) for one in config])
    assert plan == again
    copied: Plan = pickle.loads(pickle.dumps(plan))
    assert copied == plan
    assert copied.releases[0].selection is not None
    assert plan.releases[0].selection is not None
    assert copied.releases[0].selection.weights.tolist() == plan.releases[0].selection.weights.tolist()
    assert make_plan(budget(1.1), config) != plan
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.mu = 1.0  # type: ignore[misc]


def test_n8_releases_of_the_same_name_are_composed_like_others() -> None:
    """Two releases of one name, which only the config refuses: still no more than the budget, or an error."""
    try:
        plan = make_plan(budget(), [release("a", share=1), release("a", share=3)])
    except ValueError:
        return
    assert sum((Fraction(stage.norm) / Fraction(stage.scale)) ** 2 for stage in plan.stages) <= Fraction(plan.mu) ** 2


def test_more_budget_means_less_noise() -> None:
    """In epsilon and in delta, over the whole range, also where the proof changes from one to the other."""
    for budgets in (
        [budget(epsilon, 1e-6) for epsilon in (1e-3, 0.1, 1, 10, 20, 29, 30, 31, 40, 100)],
        [budget(1.0, delta) for delta in (1e-13, 1e-12, 1e-11, 1e-9, 1e-6, 1e-3, 0.1, 0.9)],
        [budget(25.0, delta) for delta in (1e-13, 1e-9, 1e-3, 0.1)],
    ):
        mus = [make_plan(whole, [release()]).mu for whole in budgets]
        assert mus == sorted(set(mus))


def test_a_delta_that_no_noise_can_keep_is_refused() -> None:
    """With the cure, and the smallest delta that is named works."""
    with pytest.raises(PlanError, match=r"budget\.delta: 1e-15 is too small to be kept; write 2e-14 or more"):
        make_plan(budget(1.0, 1e-15), [release()])
    assert make_plan(budget(1.0, 2 * LEAST_DELTA), [release(metrics=ALL_METRICS)]).mu > 0


@pytest.mark.parametrize(("epsilon", "delta"), [(1e-10, 1e-13), (1e-3, 0.999999), (1e6, 1e-6), (1e15, 0.5), (30.0, 2e-14)])
def test_extreme_budgets_are_planned_without_a_failure(epsilon: float, delta: float) -> None:
    """Every scale is a positive finite number, every threshold an integer."""
    plan = make_plan(budget(epsilon, delta), [release(select={"cap": 65_536})])
    assert all(0 < stage.scale < math.inf for stage in plan.stages)
    assert isinstance(plan.releases[0].selection.threshold, int)  # type: ignore[union-attr]


def test_more_stages_than_the_proof_counts_are_refused():
    metrics = [{"name": f"m{number}", "sum": f"v{number}", "clip": [0, 1]} for number in range(255)]
    release = {"name": "r", "keys": {"columns": ["k"]}, "bounds": {"keys_per_unit": 1, "rows_per_key": 1}, "metrics": metrics}
    with pytest.raises(PlanError, match="256 stages"):
        make_plan(Budget(epsilon=1.0, delta=1e-6), [Release.model_validate(release)])
    release["metrics"] = metrics[1:]
    assert len(make_plan(Budget(epsilon=1.0, delta=1e-6), [Release.model_validate(release)]).stages) == 255
