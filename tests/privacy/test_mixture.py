"""privacy/mixture.py and what a plan makes of it, against numeric integration written from the definitions (N8)."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import exp as mp_exp
from mpmath import findroot, mp, mpf, ncdf
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from pipelines.config import parse_config
from privacy.mixture import equivalent_mu, least_factor
from privacy.noise import GaussianNoise, LaplaceNoise
from privacy.plan import Plan, PlanError, make_plan
from tests.privacy.plans import budget, release
from transforms.errors import ConfigError

Floats = NDArray[np.float64]
_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(40))


def gaussian_curve(mu: float) -> Callable[[Floats], Floats]:
    """The hockey-stick divergence of two normal distributions mu deviations apart, at e^epsilon, for any epsilon."""

    def curve(epsilon: Floats) -> Floats:
        first, second = ndtr(mu / 2 - epsilon / mu), log_ndtr(-mu / 2 - epsilon / mu)
        return np.asarray(np.maximum(first - np.exp(epsilon + second), 0))

    return curve


def none_curve(epsilon: Floats) -> Floats:
    """That of two equal distributions."""
    return np.asarray(np.maximum(1 - np.exp(epsilon), 0))


def with_laplace(curve: Callable[[Floats], Floats], each: float) -> Callable[[Floats], Floats]:
    """That of a product with a continuous Laplace mechanism of epsilon `each`.

    Its privacy loss is `each` with probability 1/2, -each with e^-each / 2, and each (1 - 2 x) for x in 0..1 with the density
    each e^(-each x) / 2. The integral is made of 10 pieces of 40 nodes.
    """
    pieces = np.arange(10) / 10
    x = (pieces[:, None] + (_NODES + 0.5) / 10).ravel()
    weights = np.tile(_WEIGHTS / 10, 10) * each * np.exp(-each * x) / 2

    def product(epsilon: Floats) -> Floats:
        ends = curve(epsilon - each) / 2 + np.exp(-each) / 2 * curve(epsilon + each)
        return np.asarray(ends + curve(epsilon[..., None] - each * (1 - 2 * x)) @ weights)

    return product


def tabulated(curve: Callable[[Floats], Floats], reach: float) -> Callable[[Floats], Floats]:
    """The same, convex as it is, by lines between 8,000 points of +-reach; beyond, all of the mass counts or none."""
    points = np.linspace(-reach, reach, 8_001)
    values = np.concatenate([curve(part) for part in np.array_split(points, 8)])
    return lambda epsilon: np.where(epsilon < -reach, none_curve(epsilon), np.interp(epsilon, points, values, right=0.0))


def exact_delta(epsilon: float, epsilons: tuple[float, ...], mu: float) -> float:
    """The delta of Laplace stages and Gaussian ones together, by integration."""
    reach = abs(epsilon) + 2 * math.fsum(epsilons) + 10 * mu + 10 * mu**2
    curve = gaussian_curve(mu) if mu else none_curve
    for each in epsilons:
        curve = with_laplace(tabulated(curve, reach), each)
    return float(curve(np.array(epsilon)))


def test_the_integration_knows_what_is_known() -> None:
    """One Laplace stage: 1 - e^((epsilon - each) / 2). Two: a simulation's, within 6 of its deviations. Total mass 1."""
    for epsilon, each in ((0.1, 1.0), (0.9, 1.0), (1.0, 1.0), (0.0, 0.3), (-0.2, 0.3), (3.0, 5.0)):
        assert exact_delta(epsilon, (each,), 0) == pytest.approx(max(1 - math.exp((epsilon - each) / 2), 0), abs=1e-5)
    assert exact_delta(-60.0, (1.0, 2.0), 0.7) == pytest.approx(1, abs=1e-9)
    draw, count = np.random.default_rng(1), 10**6
    losses = np.zeros(count)
    for each in (0.5, 0.8):
        x = draw.laplace(scale=1 / each, size=count)
        losses += each * (np.abs(x - 1) - np.abs(x))
    x = draw.normal(size=count)
    losses += (0.6**2 - 2 * 0.6 * x) / 2
    for epsilon in (0.0, 0.5, 1.0, 1.5):
        sample = np.maximum(1 - np.exp(epsilon - losses), 0)
        wanted = exact_delta(epsilon, (0.5, 0.8), 0.6)
        assert abs(sample.mean() - wanted) < 6 * sample.std() / count**0.5


@pytest.mark.parametrize("epsilons", [(1.0,), (0.5, 1.5), (0.1,) * 7, (1e-6, 30.0)])
@pytest.mark.parametrize("epsilon", [1e-3, 1.0, 20.0, 1e6])
def test_without_delta_the_epsilons_add_up(epsilon: float, epsilons: tuple[float, ...]) -> None:
    """The factor is their sum over epsilon, rounded up by less than one part in 1e8."""
    factor = least_factor(epsilon, 0.0, epsilons)
    exact = math.fsum(epsilons) / epsilon
    assert exact <= factor <= exact * (1 + 1e-8)


STAGES: dict[str, tuple[tuple[float, ...], float]] = {
    "one Laplace": ((1.0,), 0.0),
    "two Laplace": ((0.4, 0.6), 0.0),
    "three Laplace": ((0.2, 0.3, 0.5), 0.0),
    "one of each": ((0.5,), 0.2),
    "a little Laplace": ((0.05,), 0.25),
    "a little Gaussian": ((1.0,), 0.03),
    "two Laplace, one Gaussian": ((0.3, 0.3), 0.15),
}


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-6), (0.3, 1e-3), (3.0, 1e-5), (1.0, 0.1)])
def test_n8_the_factor_keeps_delta_and_is_tight(stages: str, epsilon: float, delta: float) -> None:
    """By integration: delta at the factor is at most delta, and 2% less noise would break it, or the epsilons' sum decides."""
    epsilons, mu = STAGES[stages]
    factor = least_factor(epsilon, delta, epsilons, mu)

    def delta_at(factor: float) -> float:
        return exact_delta(epsilon, tuple(each / factor for each in epsilons), mu / factor)

    assert delta_at(factor / 1.02) > delta
    if not mu and factor >= math.fsum(epsilons) / epsilon:
        return  # their sum decides, and delta is 0
    # What lines between points of a convex curve add is below 0.2%: a tenth of what 0.1% of the noise changes.
    assert delta_at(factor) <= delta * 1.002 + 1e-12
    if not mu:
        assert factor <= math.fsum(epsilons) / epsilon * (1 + 1e-8)


def test_n8_the_factor_allows_for_what_rounding_adds() -> None:
    """A Gaussian stage of few steps needs a larger one: its rounding is within delta. With many steps it costs nothing."""
    fine = least_factor(1.0, 1e-6, (0.5,), 0.2)
    assert least_factor(1.0, 1e-6, (0.5,), 0.2, 2.0**29) == pytest.approx(fine, rel=2e-3)
    coarse = least_factor(1.0, 1e-6, (0.5,), 0.2, 2.0**17)
    rounding = (1 + math.e) * math.sqrt(2**40 / 600) / (2.0**17 * coarse / 0.2) ** 2
    assert coarse > 1.0005 * fine
    assert rounding > 1e-7
    assert exact_delta(1.0, (0.5 / coarse,), 0.2 / coarse) + rounding <= 1e-6


@pytest.mark.parametrize("stages", ["two Laplace", "one of each"])
def test_more_budget_needs_no_larger_factor(stages: str) -> None:
    """In epsilon and in delta, over the whole range, also where the proof changes: within the thousandth of the search."""
    epsilons, mu = STAGES[stages]
    by_epsilon = [least_factor(epsilon, 1e-6, epsilons, mu) for epsilon in (0.01, 0.1, 0.5, 1, 4, 29, 30, 31, 100, 1000)]
    deltas = (1e-12, 1e-10, 1e-9, 1.1e-9, 1e-8, 1e-6, 1e-3, 0.1, 0.5)
    by_delta = [least_factor(1.0, delta, epsilons, mu) for delta in deltas]
    for factors in (by_epsilon, by_delta):
        assert all(after <= before * 1.002 for before, after in itertools.pairwise(factors)), factors
        assert factors[-1] < 0.9 * factors[0]


# As good as a Gaussian.


def laplace_tradeoff(epsilon: mpf, alpha: mpf) -> mpf:
    """The least type II error at a type I error, of Lap(1) against the same shifted by epsilon, by Neyman and Pearson.

    The best test rejects where x is above a threshold t: 1 - F(t) = alpha, and the error is F(t - epsilon).
    """

    def distribution(x: mpf) -> mpf:
        return mp_exp(x) / 2 if x < 0 else 1 - mp_exp(-x) / 2

    threshold = -mp.log(2 * alpha) if alpha < mpf(1) / 2 else mp.log(2 * (1 - alpha))
    return distribution(threshold - epsilon)


@pytest.mark.parametrize("epsilon", [1e-9, 1e-4, 9.9e-4, 1.1e-3, 0.1, 1.0, 3.0, 20.0, 100.0, 999.0, 1001.0, 5000.0])
def test_n8_a_laplace_stage_is_no_worse_than_a_gaussian_of_the_equivalent_mu(epsilon: float) -> None:
    """The Gaussian's tradeoff function is nowhere above; at 0.999 of mu it is somewhere, but where a bound is used instead."""
    mu = equivalent_mu(epsilon)
    with mp.workdps(40):
        e = mpf(epsilon)
        # Both functions are their own mirror images: errors of type I below 1/2 are enough.
        alphas = [mp_exp(mp.log(mp_exp(-e / 2) / 2) * share / 20) for share in range(1, 41)]
        quantiles = [
            findroot(lambda x, alpha=alpha: mp.log(ncdf(-x) / alpha), _start(alpha)) for alpha in alphas if 2 * alpha < 1
        ]

        def above(mu: mpf) -> bool:
            pairs = zip(alphas[-len(quantiles) :], quantiles, strict=True)
            return any(ncdf(quantile - mu) > laplace_tradeoff(e, alpha) for alpha, quantile in pairs)

        assert not above(mpf(mu))
        assert above(mpf(mu) * mpf("0.999" if 1e-3 <= epsilon < 1000 else "0.99"))


def _start(alpha: mpf) -> mpf:
    """About where a normal value has this tail."""
    return mp.sqrt(max(-2 * mp.log(2 * alpha), mpf("1e-6")))


# Discrete Laplace noise of several numbers.


def hockey_stick(first: Floats, second: Floats, epsilon: float) -> float:
    """Of two distributions on the same finite grid."""
    return float(np.maximum(first - math.exp(epsilon) * second, 0).sum())


def masses(scale: float, reach: int, shift: int) -> Floats:
    """The probabilities of -reach..reach."""
    rho = math.exp(-1 / scale)
    return np.asarray((1 - rho) / (1 + rho) * rho ** np.abs(np.arange(-reach, reach + 1) - shift))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_n8_a_shift_of_one_number_is_the_worst(scale: float) -> None:
    """Of two numbers by t1 and t2, the divergence at any e^epsilon is at most that of one by t1 + t2: exact sums of a window.

    What is outside of the window is less than 1e-12.
    """
    reach = int(40 * scale) + 10
    zero = masses(scale, reach, 0)
    smaller = 0
    for total in range(1, 7):
        for epsilon in np.linspace(-total / scale - 0.5, total / scale + 0.1, 23):
            single = hockey_stick(zero, masses(scale, reach, total), epsilon)
            for first in range(1, total):
                both = np.outer(masses(scale, reach, first), masses(scale, reach, total - first))
                double = hockey_stick(np.outer(zero, zero), both, epsilon)
                assert double <= single + 1e-12, (total, first, epsilon)
                smaller += double < single - 1e-6
    assert smaller > 100


@pytest.mark.parametrize("scale", [0.5, 2.5, 40.0])
def test_n8_the_discrete_stage_is_no_worse_than_a_continuous_one(scale: float) -> None:
    """Of epsilon C / b + 2 log cosh(1 / 2b), as the guarantee says; of C / b alone it is a little worse."""
    reach = int(40 * scale) + 10
    more = 0
    for shift in (1, 2, 3, 10):
        each = shift / scale + 2 * math.log(math.cosh(1 / (2 * scale)))
        for epsilon in np.linspace(-shift / scale, shift / scale, 21):
            found = hockey_stick(masses(scale, reach, 0), masses(scale, reach, shift), epsilon)
            assert found <= 1 - math.exp((epsilon - each) / 2) + 1e-12
            more += found > 1 - math.exp((epsilon - shift / scale) / 2) + 1e-9
    assert more


# What a plan makes of it.


def _plan(noise: str, metric: dict[str, Any], epsilon: float = 1.0, delta: float = 1e-6, **bounds: int) -> Plan:
    """Of one metric of public keys."""
    whole = {"keys_per_unit": 1, "rows_per_key": 1, "noise": noise, **bounds}
    return make_plan(budget(epsilon, delta), [release(public=True, bounds=whole, metrics=[{"name": "m", **metric}])])


SINGLE: list[dict[str, Any]] = [
    {"count": "events"},
    {"count": "units"},
    {"count": "events", "norm": 3},
    {"sum": "v", "clip": [-2, 5]},
    {"sum": "v", "clip": [0, 5], "clip_total": [0, 7]},
    {"vector_sum": ["v", "w"], "norm": 4},
    {"histogram": {"of": "v", "bins": [0, 1, 2]}},
]


@pytest.mark.parametrize("metric", SINGLE, ids=repr)
def test_auto_takes_the_noise_with_the_smaller_deviation(metric: dict[str, Any]) -> None:
    """Of the two plans of the same release, to 1%; over bounds and budgets each is taken at times.

    With a norm that is given the two are different bounds, and the noise is Gaussian.
    """
    taken = set()
    for keys, (epsilon, delta) in itertools.product((1, 2, 6, 40), ((0.1, 1e-9), (1.0, 1e-6), (4.0, 1e-3))):
        stages = {
            noise: _plan(noise, metric, epsilon, delta, keys_per_unit=keys).stages[0] for noise in ("gaussian", "laplace", "auto")
        }
        auto = stages["auto"]
        if "norm" in metric:
            assert auto == stages["gaussian"]
        assert auto.deviation <= 1.01 * min(stages["gaussian"].deviation, stages["laplace"].deviation) or "norm" in metric
        assert auto.deviation in (stages["gaussian"].deviation, stages["laplace"].deviation)
        taken.add(type(auto.noise))
    assert taken == ({GaussianNoise} if "norm" in metric else {GaussianNoise, LaplaceNoise})


def test_auto_without_delta_is_laplace() -> None:
    """Whatever the bounds: nothing else is possible."""
    plan = _plan("auto", {"count": "events"}, 1.0, 0.0, keys_per_unit=10_000)
    assert isinstance(plan.stages[0].noise, LaplaceNoise)


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0])
def test_n8_a_plan_with_both_kinds_keeps_the_budget(epsilon: float) -> None:
    """Private keys, whose selection is Gaussian, a release of each kind: by integration over all stages, and 2% is too little."""
    laplace = {"keys_per_unit": 2, "rows_per_key": 1, "noise": "laplace"}
    metrics: list[dict[str, Any]] = [{"name": "n", "count": "events"}, {"name": "s", "sum": "v", "clip": [0, 1], "share": 2}]
    plan = make_plan(budget(epsilon, 1e-6), [release("a", bounds=laplace, metrics=metrics), release("b", metrics=metrics[:1])])
    gaussian = [stage for stage in plan.stages if isinstance(stage.noise, GaussianNoise)]
    epsilons = tuple(stage.epsilon for stage in plan.stages if stage.epsilon is not None)
    assert (len(gaussian), len(epsilons)) == (3, 2)
    mu = math.sqrt(math.fsum(1 / stage.multiplier**2 for stage in gaussian))
    assert mu == pytest.approx(plan.mu, rel=1e-9)
    left = plan.delta - plan.delta_selection
    assert exact_delta(epsilon, epsilons, mu) <= left
    assert exact_delta(epsilon, tuple(each * 1.02 for each in epsilons), mu * 1.02) > left
    # One factor for both kinds: shares mean the same as where all is of one kind.
    assert epsilons[1] == pytest.approx(2 * epsilons[0])


@pytest.mark.parametrize("noise", ["laplace", "auto"])
def test_a_laplace_plan_without_delta_spends_epsilon_exactly(noise: str) -> None:
    """The epsilons of the stages add up to it, by shares, never to more; mu is 0."""
    metrics: list[dict[str, Any]] = [{"name": "n", "count": "events"}, {"name": "m", "mean": "v", "clip": [0, 1], "share": 3}]
    bounds = {"keys_per_unit": 2, "rows_per_key": 1, "noise": noise}
    plan = make_plan(budget(0.7, 0.0), [release(public=True, bounds=bounds, metrics=metrics)])
    epsilons = [stage.epsilon for stage in plan.stages]
    assert None not in epsilons
    assert epsilons == pytest.approx([0.175, 0.35, 0.175], rel=1e-8)
    assert math.fsum(epsilons) <= 0.7  # type: ignore[arg-type]
    assert (plan.mu, plan.delta_selection) == (0, 0)


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "auto"])
def test_a_sum_takes_part_in_a_means_stages_where_both_have_gaussian_noise(noise: str) -> None:
    """Not where one of them has Laplace noise, which shares may decide: then the sum has a stage of its own."""
    bounds = {"keys_per_unit": 3, "rows_per_key": 1, "noise": noise}
    kinds = set()
    for share in (0.001, 0.03, 0.3, 1, 3, 30, 1000):
        metrics: list[dict[str, Any]] = [
            {"name": "s", "sum": "v", "clip": [0, 10], "share": share},
            {"name": "m", "mean": "v", "clip": [0, 10]},
        ]
        plan = make_plan(budget(1.0, 1e-6), [release(public=True, bounds=bounds, metrics=metrics)])
        orders = {stage.noise.order for stage in plan.stages}
        names = ["s.sum+m.sum", "s.count+m.count"] if orders == {2} else ["s", "m.sum", "m.count"]
        assert [stage.name for stage in plan.stages] == names, share
        kinds |= orders
    assert kinds == {"gaussian": {2}, "laplace": {1}, "auto": {1, 2}}[noise]


PUBLIC, PRIVATE = ", values: {k: [a]}", ""
CONFIG = """
version: 1
dataset: d
events: {files: /nowhere/*.parquet, privacy_unit: u}
budget: {epsilon: 1, delta: 0}
releases: [{name: r, keys: {columns: [k]LISTED}, bounds: {keys_per_unit: 1, rows_per_key: 1NOISE}, metrics: [METRIC]}]
output: {path: /nowhere/out}
"""


@pytest.mark.parametrize(
    ("listed", "noise", "word"), [(True, None, "Gaussian"), (True, "gaussian", "Gaussian"), (False, "laplace", "private")]
)
def test_delta_0_is_refused_where_something_needs_it(listed: bool, noise: str | None, word: str) -> None:
    """By the plan, and by the config, which says where: Gaussian noise, or private keys even with Laplace noise."""
    bounds: dict[str, Any] = {"keys_per_unit": 1, "rows_per_key": 1} | ({} if noise is None else {"noise": noise})
    metric = {"name": "n", "count": "events"}
    with pytest.raises(PlanError, match=r"budget\.delta"):
        make_plan(budget(1.0, 0.0), [release(public=listed, bounds=bounds, metrics=[metric])])
    text = CONFIG.replace("LISTED", PUBLIC if listed else PRIVATE).replace("METRIC", "{name: n, count: events}")
    with pytest.raises(ConfigError, match=rf"budget\.delta: is 0, but .*releases\[0\].*{word}|budget\.delta: is 0, but .*{word}"):
        parse_config(text.replace("NOISE", "" if noise is None else f", noise: {noise}"))


def test_delta_0_is_accepted_with_laplace_noise_on_public_keys() -> None:
    """In each release: one with Gaussian noise among them is refused."""
    text = CONFIG.replace("LISTED", PUBLIC).replace("METRIC", "{name: n, count: events}")
    assert parse_config(text.replace("NOISE", ", noise: laplace")).budget.delta == 0
    first, second = (
        release(name, public=True, bounds={"keys_per_unit": 1, "rows_per_key": 1, "noise": "laplace"}) for name in "ab"
    )
    assert make_plan(budget(1.0, 0.0), [first, second]).mu == 0
    with pytest.raises(PlanError, match=r"budget\.delta"):
        make_plan(budget(1.0, 0.0), [first, release("b", public=True)])


def test_the_factor_is_found_from_either_side() -> None:
    """Far from where the search starts, the result is where an independent search finds it."""
    for epsilon, delta, epsilons, mu in ((1.0, 1e-6, (1e-4,), 1e-3), (1.0, 1e-6, (50.0,), 20.0), (0.01, 1e-5, (0.01,), 0.003)):
        factor = least_factor(epsilon, delta, epsilons, mu)

        def off(log: float, epsilon: float = epsilon, delta: float = delta, stages: Any = (epsilons, mu)) -> float:
            whole = exact_delta(epsilon, tuple(each / math.exp(log) for each in stages[0]), stages[1] / math.exp(log))
            return math.log(max(whole, 1e-300) / delta)

        exact = math.exp(brentq(off, math.log(factor) - 3, math.log(factor) + 3))
        assert exact * (1 - 1e-6) <= factor <= 1.02 * exact
