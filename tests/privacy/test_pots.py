"""Pots: nothing is lost or rounded down, a limit never admits more than 50 digits allow, and adaptive runs stay within it."""

import itertools
import math
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import exp, mp, mpf
from scipy.integrate import quad
from scipy.stats import norm

from privacy.mixture import equivalent_mu
from privacy.plan import Plan, SelectionStage, make_plan
from privacy.pots import Limit, Pots, cost
from tests.privacy.exact import DIGITS, closed_form_delta, rational, zcdp_conversion_delta
from tests.privacy.plans import budget, release

STEP = Fraction(1, 2**120)
FACTS = settings(max_examples=100, deadline=None, derandomize=True)


def plans() -> Iterator[Plan]:
    """Of budgets from 1e-3 to 1e14, with private and public keys, and with any k rows."""
    dice = random.Random(1)
    for number in range(100):
        releases = [
            release(f"r{place}", public=bool(dice.getrandbits(1)), keys_per_unit=dice.randint(1, 3000))
            for place in range(dice.randint(1, 3))
        ]
        epsilon = 1e14 if number == 0 else 10 ** dice.uniform(-3, 3)
        yield make_plan(budget(epsilon, 10 ** dice.uniform(-12, -1)), releases)
    yield make_plan(budget(1e-9, 1e-13), [release()])
    yield make_plan(budget(), [release(metrics=[{"name": "events", "count": "events"}])], rows=10)


def test_r10_a_cost_is_the_exact_one_rounded_up():
    """Every pot is at least what the stages cost, by rationals of the drawn scales, and less than a step above it."""
    selections = 0
    for plan in plans():
        charged = cost(plan)
        mu2 = sum(Fraction(stage.norm) ** 2 / Fraction(stage.scale) ** 2 for stage in plan.stages)
        delta = Fraction(1, 2**48) + sum(Fraction(stage.delta) for stage in plan.stages if isinstance(stage, SelectionStage))
        selections += any(isinstance(stage, SelectionStage) for stage in plan.stages)
        assert mu2 <= charged.mu2 < mu2 + STEP
        assert delta <= charged.delta < delta + STEP
        assert charged.epsilon == 0
        least = min(Fraction(stage.scale) for stage in plan.stages)
        # sqrt(2^40 / 600) / least^2, squared: rationals, so no float decides.
        exact, squared = Fraction(2**40, 600), (charged.distance * least**2) ** 2
        assert exact <= squared
        assert charged.distance < Fraction(42813, 1) / least**2 + STEP  # the root is 42,808.2..
    assert 20 < selections < 102


def test_r10_a_cost_of_a_plan_is_within_its_budget():
    """What a run costs by its pots is about what its config says: a limit of the same size has room for it, and not for five."""
    for epsilon, delta in ((0.1, 1e-8), (1.0, 1e-6), (10.0, 1e-5)):
        one = cost(make_plan(budget(epsilon, delta), [release()]))
        assert Limit(epsilon=epsilon * 1.1, delta=2 * delta).admits(one)
        assert not Limit(epsilon=epsilon, delta=2 * delta).admits(one.times(5))


def test_r10_100_000_tiny_charges_add_up():
    """Each is lost when added to 1.0 as a float; together they fill what was left, and not one more fits."""
    tiny, limit = Pots(mu2=STEP, delta=STEP, distance=STEP), Limit(epsilon=1, delta=1e-6)
    assert 1.0 + float(STEP) == 1.0
    count = 100_000
    spent = Pots(mu2=limit.mu2 - count * STEP)
    for _ in range(count):
        assert limit.admits(spent)
        spent += tiny
    assert (spent.mu2, spent.delta, spent.distance) == (limit.mu2, count * STEP, count * STEP)
    assert spent == Pots(mu2=limit.mu2 - count * STEP) + tiny.times(count)
    assert limit.admits(spent)
    assert not limit.admits(spent + tiny)
    full = Pots(delta=limit.delta_pot - count * STEP)
    for _ in range(count):
        full += Pots(delta=STEP)
    assert limit.admits(full)
    assert not limit.admits(full + Pots(delta=STEP))


def laplace(*epsilons: float) -> Pots:
    """What Laplace stages cost."""
    return Pots(
        mu2=sum((Fraction(equivalent_mu(each)) ** 2 for each in epsilons), Fraction(0)),
        epsilon=sum(map(Fraction, epsilons), Fraction(0)),
    )


def test_r10_what_laplace_stages_cost():
    """Their epsilons, and the mu^2 of Gaussian stages that are worse; no distance, unless there are Gaussian stages too."""
    for delta, public in ((0.0, True), (1e-6, True), (1e-6, False)):
        bounds = {"keys_per_unit": 2, "rows_per_key": 3, "noise": "laplace"}
        plan = make_plan(budget(0.7, delta), [release(public=public, bounds=bounds)])
        charged = cost(plan)
        epsilons = [Fraction(stage.norm) / Fraction(stage.scale) for stage in plan.stages if stage.noise.order == 1]
        assert len(epsilons) == len(plan.stages) - (not public)
        assert sum(epsilons) <= charged.epsilon <= sum(epsilons) * (1 + Fraction(1, 10**12))
        if delta == 0:
            assert Fraction(0.7) * (1 - Fraction(1, 10**8)) < charged.epsilon <= Fraction(0.7)
        squares = [Fraction(equivalent_mu(float(epsilon))) ** 2 for epsilon in epsilons]
        squares += [Fraction(stage.norm) ** 2 / Fraction(stage.scale) ** 2 for stage in plan.stages if stage.noise.order == 2]
        assert float(charged.mu2) == pytest.approx(float(sum(squares)), rel=1e-7)
        assert charged.pure is public
        assert (charged.distance == 0) is public


def test_r10_runs_of_laplace_stages_alone_may_spend_epsilon_itself():
    """Ten of epsilon 1 in a limit of 10, which by mu^2 would be three; with one Gaussian run among them, not ten."""
    limit = Limit(epsilon=10, delta=1e-5)
    one, gaussian = laplace(1.0), Pots(mu2=Fraction(1, 100), distance=STEP)
    assert limit.runs(one + Pots(delta=STEP)) == 10
    assert limit.admits(one.times(10))
    assert not limit.admits(one.times(10) + Pots(epsilon=STEP))
    assert limit.part(one.times(5)) == pytest.approx(0.5)
    by_mu2 = limit.runs(one + Pots(delta=STEP), gaussian)
    assert 1 < by_mu2 < 10
    assert limit.admits(one.times(by_mu2) + gaussian)
    assert not limit.admits(one.times(by_mu2 + 1) + gaussian)
    assert one.times(10).epsilon_at(1e-6) == pytest.approx(10)
    small = laplace(0.02)
    assert limit.runs(small + Pots(delta=STEP)) > 10 / 0.02


def root(value: Fraction) -> mpf:
    with mp.workdps(DIGITS):
        return mp.sqrt(rational(value))


CLOSED = [(e, d) for e in (1e-3, 0.1, 1.0, 3.0, 10.0, 11.999, 12.0) for d in (1e-14, 1e-9, 1e-5, 0.1, 0.9)]


@pytest.mark.parametrize(("epsilon", "delta"), CLOSED)
def test_r10_the_pot_of_gaussian_noise_is_the_closed_form(epsilon, delta):
    """Never above what half of delta allows, and a millionth more would be."""
    pot = Limit(epsilon=epsilon, delta=delta).mu2
    half = rational(Fraction(delta) / 2)
    assert closed_form_delta(epsilon, root(pot)) <= half
    assert closed_form_delta(epsilon, root(pot * (1 + Fraction(1, 10**6)))) > half


@pytest.mark.parametrize("delta", [1e-14, 1e-5, 0.9])
@pytest.mark.parametrize("epsilon", [12.001, 15.0, 30.0, 100.0, 1e4, 1e14])
def test_r10_the_pot_beyond_epsilon_12_is_zcdp(epsilon, delta):
    """Where discrete noise is covered as it is: never above the conversion of half of delta, and 1% more would be.

    Where that allows less than epsilon 12 does, the pots are those of epsilon 12.
    """
    limit, twelve = Limit(epsilon=epsilon, delta=delta), Limit(epsilon=12.0, delta=delta)
    assert limit.mu2 >= twelve.mu2
    if limit.mu2 == twelve.mu2:
        assert limit.delta_of(Pots(distance=Fraction(1))) == twelve.delta_of(Pots(distance=Fraction(1))) > 1
        return
    half = rational(Fraction(delta) / 2)
    assert zcdp_conversion_delta(epsilon, root(limit.mu2)) <= half
    assert zcdp_conversion_delta(epsilon, root(limit.mu2 * Fraction(101, 100))) > half
    assert limit.delta_of(Pots(delta=STEP, distance=Fraction(1))) == STEP


fractions = st.builds(lambda top, bits: Fraction(top, 2**bits), st.integers(0, 2**60), st.integers(0, 120))
limits = st.builds(Limit, epsilon=st.floats(0.01, 100), delta=st.floats(1e-10, 0.5))


def parts_of(limit: Limit, mu2: float, delta: float, distance: float) -> Pots:
    """Pots that use these parts of a limit."""
    factor = limit.delta_of(Pots(distance=Fraction(1))) or 1
    return Pots(
        mu2=limit.mu2 * Fraction(mu2),
        delta=limit.delta_pot * Fraction(delta),
        distance=limit.delta_pot * Fraction(distance) / factor,
    )


part = st.floats(0, 1.2)


@given(limits, part, part, part)
@FACTS
def test_r10_what_a_limit_admits(limit, mu2, delta, distance):
    """Exactly what stays within both pots; the distance counts with 1 + e^epsilon."""
    spent = parts_of(limit, mu2, delta, distance)
    with mp.workdps(DIGITS):
        factor = 1 + exp(mpf(limit.epsilon)) if limit.epsilon <= 12 else mpf(0)
        in_delta = rational(spent.delta) + factor * rational(spent.distance)
    if limit.admits(spent):
        assert spent.mu2 <= limit.mu2
        assert in_delta <= rational(Fraction(limit.delta) / 2)
        assert limit.part(spent) <= 1
    else:
        counted = limit.delta_of(spent)
        assert spent.mu2 > limit.mu2 or counted > limit.delta_pot
        assert limit.part(spent) >= 1
        assert counted <= spent.delta + spent.distance * (3 + Fraction(math.exp(limit.epsilon)))
        assert not limit.admits(spent + Pots(mu2=STEP))


@given(limits, st.floats(1e-3, 0.5), st.floats(1e-3, 0.5), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1))
@FACTS
def test_r10_how_many_more_runs_fit(limit, mu2, delta, distance, spent_mu2, spent_delta):
    """So many fit, and one more does not."""
    each, spent = parts_of(limit, mu2, delta, distance), parts_of(limit, spent_mu2, spent_delta, 0)
    count = limit.runs(each, spent)
    assert not limit.admits(spent + each.times(count + 1))
    if limit.admits(spent):
        assert limit.admits(spent + each.times(count))
    else:
        assert count == 0


def test_how_many_runs_where_a_limit_was_lowered():
    """None, not a negative number."""
    limit = Limit(epsilon=1, delta=1e-6)
    assert limit.runs(parts_of(limit, 0.1, 0.1, 0), parts_of(limit, 3, 3, 0)) == 0
    assert limit.runs(parts_of(limit, 0.0999, 0.05, 0)) == 10


def holds(spent: Pots, epsilon: float, delta: float) -> bool:
    """Whether (epsilon, delta) holds for what was spent, in 50 digits, by either proof."""
    with mp.workdps(DIGITS):
        left, mu = mpf(delta) - rational(spent.delta), root(spent.mu2)
        by_zcdp = zcdp_conversion_delta(epsilon, mu)
        closed = closed_form_delta(epsilon, mu) + (1 + exp(mpf(epsilon))) * rational(spent.distance)
        return bool(min(by_zcdp, closed) <= left)


@given(st.floats(-8, 4), st.floats(-12, -1), st.floats(0, 0.99), st.floats(-30, -8))
@FACTS
def test_r10_epsilon_at_holds_in_50_digits(log_mu2, log_delta, part_of_delta, log_distance):
    """The (epsilon, delta) that `show` tells is one, and is not far from the smallest."""
    delta = 10**log_delta
    spent = Pots(
        mu2=Fraction(10**log_mu2), delta=Fraction(delta * part_of_delta), distance=Fraction(10**log_distance) * Fraction(delta)
    )
    epsilon = spent.epsilon_at(delta)
    assert 0 < epsilon < math.inf
    assert holds(spent, epsilon, delta)
    assert not holds(spent, epsilon * 0.9, delta) or epsilon < 1e-9 or not holds(spent, epsilon * 0.5, delta)


@given(st.floats(-6, 3), st.floats(-10, -1), st.floats(1.01, 10))
@FACTS
def test_r10_epsilon_at_is_monotone(log_mu2, log_delta, more):
    """More spent, or a smaller delta, is never a smaller epsilon."""
    delta = 10**log_delta
    spent = Pots(mu2=Fraction(10**log_mu2), delta=Fraction(delta) / 1000, distance=STEP)
    epsilon = spent.epsilon_at(delta)
    assert spent.times(2).epsilon_at(delta) >= epsilon
    assert (spent + Pots(delta=Fraction(delta) / 3)).epsilon_at(delta) >= epsilon
    assert spent.epsilon_at(delta / more) >= epsilon
    assert (spent + laplace(0.5)).epsilon_at(delta) > epsilon


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 11.9, 12.1, 50.0])
def test_epsilon_at_of_a_full_limit_is_the_limit(epsilon):
    """Full pots are never told as more than the limit, nor as much less."""
    limit = Limit(epsilon=epsilon, delta=1e-6)
    full = Pots(mu2=limit.mu2, delta=limit.delta_pot, distance=Fraction(0))
    assert limit.admits(full)
    assert epsilon * 0.97 <= full.epsilon_at(limit.delta) <= epsilon * (1 + 1e-6)


def test_epsilon_at_its_edges():
    """Nothing spent is 0; where delta is spent, no epsilon is enough; nothing but delta spent costs next to no epsilon."""
    assert Pots().epsilon_at(1e-9) == 0.0
    assert Pots(delta=Fraction(1e-6)).epsilon_at(1e-6) == math.inf
    assert Pots(mu2=Fraction(1), delta=Fraction(1, 10)).epsilon_at(1e-6) == math.inf
    assert Pots(delta=Fraction(1e-7)).epsilon_at(1e-6) < 1e-9
    assert laplace(1, 2).epsilon_at(1e-6) == pytest.approx(3)
    assert laplace(*[0.01] * 1000).epsilon_at(1e-6) < 3  # as Gaussian noise that is worse
    assert 0 < Pots(mu2=STEP, delta=STEP).epsilon_at(1e-14) < 1e-3


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fails what would not come back."""

    def late(*_: object) -> None:
        raise AssertionError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("mu2", [Fraction(0), Fraction(1)])
def test_epsilon_at_where_delta_is_all_but_spent(mu2):
    """A limit that was lowered to what is spent: `show` must come back."""
    with at_most(2):
        assert Pots(mu2=mu2, delta=Fraction(1e-6) * (1 - Fraction(1, 10**10))).epsilon_at(1e-6) > 0


@pytest.mark.parametrize(("epsilon", "delta"), [(1e-300, 1e-300), (1e-20, 1e-20)])
def test_the_part_of_a_tiny_limit(epsilon, delta):
    """`discreet ledger limit` takes any delta above 0; `show` must come back from it."""
    limit = Limit(epsilon=epsilon, delta=delta)
    assert not limit.admits(Pots(mu2=Fraction(1), delta=Fraction(1, 10)))
    assert limit.part(Pots(mu2=Fraction(1), delta=Fraction(1, 10))) > 1


# An adversary sees x of run 1, Gaussian with mu = 1, and then chooses the noise of run 2, of mu^2 = policy(x).

Policy = Callable[[float], float]
M = 10.0


def curve(epsilon: float, mu: float) -> float:
    """Hockey-stick of one Gaussian mechanism, for any real epsilon."""
    if mu == 0:
        return max(0.0, 1 - math.exp(epsilon))
    lower = math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
    return float(norm.cdf(mu / 2 - epsilon / mu)) - lower


def together(epsilon: float, policy: Policy, edges: list[float], sign: int) -> float:
    """Hockey-stick of both runs, exactly: run 2 works at what is left of epsilon after run 1's privacy loss.

    Args:
        sign: 1 for the input with the unit against the one without, -1 for the other way round.
    """
    middle = (1 + sign) / 2  # x is around 1 with the unit, around 0 without

    def at(x: float) -> float:
        return float(norm.pdf(x - middle)) * curve(epsilon - sign * (x - 0.5), math.sqrt(policy(x)))

    points = [-12.0, *edges, 13.0]
    return sum(quad(at, low, high, limit=200)[0] for low, high in itertools.pairwise(points))


def averaged(epsilon: float, policy: Policy, edges: list[float], middle: float) -> float:
    """What composing each path as if it had been planned says, averaged by how often each path is taken."""

    def at(x: float) -> float:
        return float(norm.pdf(x - middle)) * curve(epsilon, math.sqrt(1 + policy(x)))

    points = [-12.0, *edges, 13.0]
    return sum(quad(at, low, high, limit=200)[0] for low, high in itertools.pairwise(points))


def above(value: float) -> tuple[Policy, list[float]]:
    """The adversary of docs/guarantee.md, "Why pots"."""
    return (lambda x: 9.0 if x > value else 0.0), [value]


POLICIES: dict[str, tuple[Policy, list[float]]] = {
    "nothing adaptive": (lambda x: M - 1, []),
    **{f"above {value}": above(value) for value in (-1.0, 0.0, 0.5, 1.5, 2.5)},
    "below": ((lambda x: 9.0 if x < 0.5 else 0.0), [0.5]),
    "by degrees": ((lambda x: 9.0 * float(norm.cdf(2 * x - 1))), []),
    "three ways": ((lambda x: 9.0 if x > 2 else 4.0 if x > 1 else 1.0), [1.0, 2.0]),
}
EPSILONS = [0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0]


def test_composing_curves_of_adaptive_runs_would_be_wrong():
    """The guarantee's counter-example: at some epsilon the adversary gets more than the average of the curves says."""
    policy, edges = above(1.5)
    excess = {}
    for epsilon in EPSILONS:
        real = together(epsilon, policy, edges, 1)
        excess[epsilon] = real / max(averaged(epsilon, policy, edges, middle) for middle in (0.0, 1.0))
    assert max(excess.values()) > 1.2, excess


@pytest.mark.parametrize("name", POLICIES)
def test_adaptive_runs_stay_within_the_pot(name):
    """Whatever is chosen with a pot of M, both runs are no worse than one Gaussian of mu = sqrt(M), in both directions."""
    policy, edges = POLICIES[name]
    assert max(1 + policy(x / 10) for x in range(-100, 110)) <= M
    ratios = []
    for epsilon in EPSILONS:
        bound = curve(epsilon, math.sqrt(M))
        for sign in (1, -1):
            ratios.append(together(epsilon, policy, edges, sign) / bound)
    assert max(ratios) <= 1 + 1e-7
    if name == "nothing adaptive":
        assert min(ratios) >= 1 - 1e-7
        assert together(4.0, policy, edges, 1) > curve(4.0, math.sqrt(0.95 * M))  # a pot 5% smaller would not bound it
