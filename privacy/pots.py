"""Pots: what runs on the same people spend together, in sums that stay valid where a later run is chosen by earlier outputs."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from privacy.gaussian import COLLISION, COORDINATES, LEAST_DELTA, closed_form_mu, gaussian_delta, zcdp_delta, zcdp_mu
from privacy.mixture import equivalent_mu

if TYPE_CHECKING:
    from privacy.plan import Plan

_STEP = 2**120
"""Pots are whole multiples of 1/_STEP, rounded up: no charge is too small to be counted."""

_ROOT = math.isqrt(COORDINATES // 600) + 1
"""At least the root of COORDINATES / 600."""

_CONTINUOUS = 1 + 2.0**-27
"""A stage of discrete Laplace noise is no worse than a continuous one of so many times its epsilon."""

_CLOSED_FORM_LIMIT = 12
"""Up to this epsilon a limit is resolved by the closed form; beyond it, the factor e^epsilon of rounding is too large."""


def _up(exact: Fraction) -> Fraction:
    return Fraction(math.ceil(exact * _STEP), _STEP)


@dataclass(frozen=True, kw_only=True)
class Pots:
    """What has been spent. Exact.

    Attributes:
        mu2: of Gaussian stages the sum of norm^2 / scale^2, and of Laplace stages what Gaussian ones that are worse have.
        epsilon: of Laplace stages, the sum of norm / scale.
        delta: of selections and of ids.
        distance: between the discrete noise of Gaussian stages and the rounded continuous noise, in total variation; 0 only
            where there are no Gaussian stages.
    """

    mu2: Fraction = Fraction(0)
    epsilon: Fraction = Fraction(0)
    delta: Fraction = Fraction(0)
    distance: Fraction = Fraction(0)

    def __add__(self, other: "Pots") -> "Pots":
        return Pots(
            mu2=self.mu2 + other.mu2,
            epsilon=self.epsilon + other.epsilon,
            delta=self.delta + other.delta,
            distance=self.distance + other.distance,
        )

    def __sub__(self, other: "Pots") -> "Pots":
        return Pots(
            mu2=self.mu2 - other.mu2,
            epsilon=self.epsilon - other.epsilon,
            delta=self.delta - other.delta,
            distance=self.distance - other.distance,
        )

    def covers(self, other: "Pots") -> bool:
        """Whether no pot of the other is larger."""
        return (
            self.mu2 >= other.mu2
            and self.epsilon >= other.epsilon
            and self.delta >= other.delta
            and self.distance >= other.distance
        )

    @property
    def pure(self) -> bool:
        """Whether all stages are Laplace stages; their mu2 is at most pi / 2 times the square of their epsilon."""
        return self.distance == 0 and self.mu2 <= Fraction(8, 5) * self.epsilon**2

    def times(self, runs: int) -> "Pots":
        """What so many of the same come to."""
        return Pots(mu2=self.mu2 * runs, epsilon=self.epsilon * runs, delta=self.delta * runs, distance=self.distance * runs)

    def epsilon_at(self, delta: float) -> float:
        """The smallest epsilon such that all that was spent is (epsilon, delta)-DP, rounded up; infinite where delta is spent.

        Source: docs/guarantee.md, "Several runs".
        """
        if self == Pots():
            return 0.0
        mu = math.sqrt(self.mu2) * (1 + 1e-12)

        def holds(epsilon: float) -> bool:
            exact = zcdp_delta(epsilon, mu) if mu else 0.0
            if epsilon <= _CLOSED_FORM_LIMIT and mu:
                exact = min(exact, gaussian_delta(epsilon, mu) + 2.0**-46 + (1 + math.exp(epsilon)) * float(self.distance))
            return exact + float(self.delta) <= delta * (1 - 1e-9)

        if float(self.delta) >= delta * (1 - 1e-9):
            return math.inf
        pure = math.nextafter(float(self.epsilon), math.inf) if self.pure else math.inf
        low, high = 0.0, 1.0
        while not holds(high):
            low, high = high, 2 * high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        return min(high, pure)


def cost(plan: "Plan") -> Pots:
    """What one run of a plan spends.

    Guarantee: at least what its stages cost, from the very numbers that the noise is drawn with.
    Source: docs/guarantee.md, "Several runs".
    """
    gaussian = [stage for stage in plan.stages if stage.epsilon is None]
    epsilons = [stage.epsilon for stage in plan.stages if stage.epsilon is not None]
    squares = [(Fraction(stage.norm) / Fraction(stage.scale)) ** 2 for stage in gaussian]
    squares += [Fraction(equivalent_mu(epsilon * _CONTINUOUS)) ** 2 for epsilon in epsilons]
    selections = (Fraction(release.selection.delta) for release in plan.releases if release.selection)
    return Pots(
        mu2=_up(sum(squares, Fraction(0))),
        epsilon=_up(sum((Fraction(epsilon) * (1 + Fraction(1, 2**50)) for epsilon in epsilons), Fraction(0))),
        delta=_up(sum(selections, Fraction(COLLISION))),
        distance=_up(_ROOT / min(Fraction(stage.scale) for stage in gaussian) ** 2) if gaussian else Fraction(0),
    )


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What may be spent for ever: (epsilon, delta), and the pots that it comes to.

    Half of delta is for selections, ids and rounding, the rest for noise. Runs of Laplace stages only may also spend epsilon
    itself.
    A limit that is larger in both numbers has no smaller pots.

    Guarantee: runs whose costs `admits` are together (epsilon, delta)-DP, also where each is chosen by the outputs before it.
    Source: docs/guarantee.md, "Several runs".
    """

    epsilon: float
    delta: float

    @property
    def leaves_room(self) -> bool:
        """Whether anything fits at all."""
        return self.delta > LEAST_DELTA and self.mu2 > 0

    @cached_property
    def mu2(self) -> Fraction:
        """The pot of Gaussian stages."""
        mu = self._closed_form if self._rounded else zcdp_mu(self.epsilon, self.delta / 2)
        return Fraction(math.floor(Fraction(mu) ** 2 * _STEP), _STEP)

    @property
    def _closed_form(self) -> float:
        return closed_form_mu(min(self.epsilon, _CLOSED_FORM_LIMIT), self.delta / 2)

    @cached_property
    def _rounded(self) -> bool:
        """Whether the pots are those of rounded continuous noise, at an epsilon of at most `_CLOSED_FORM_LIMIT`."""
        return self.epsilon <= _CLOSED_FORM_LIMIT or self._closed_form >= zcdp_mu(self.epsilon, self.delta / 2)

    @cached_property
    def delta_pot(self) -> Fraction:
        """The pot of selections, ids and rounding."""
        return Fraction(self.delta) / 2

    def delta_of(self, spent: Pots) -> Fraction:
        """What was spent of the pot of delta."""
        if not self._rounded:
            return spent.delta  # discrete noise is covered as it is
        return spent.delta + (2 + math.ceil(math.exp(min(self.epsilon, _CLOSED_FORM_LIMIT)))) * spent.distance

    def admits(self, spent: Pots) -> bool:
        """Whether so much may be spent in all."""
        pure = spent.pure and spent.epsilon <= Fraction(self.epsilon)
        return (pure or spent.mu2 <= self.mu2) and self.delta_of(spent) <= self.delta_pot

    def part(self, spent: Pots) -> float:
        """The part of the limit that is spent, by the fuller pot."""
        noise = float(spent.mu2 / self.mu2) if self.mu2 else math.inf
        if spent.pure:
            noise = min(noise, float(spent.epsilon / Fraction(self.epsilon)))
        return max(noise, float(self.delta_of(spent) / self.delta_pot))

    def runs(self, each: Pots, spent: Pots | None = None) -> int:
        """How many more runs of the same cost fit."""
        spent = spent or Pots()
        left = [(self.delta_pot - self.delta_of(spent)) / self.delta_of(each)]
        if each.mu2:
            noise = [(self.mu2 - spent.mu2) / each.mu2]
            if each.pure and spent.pure:
                noise.append((Fraction(self.epsilon) - spent.epsilon) / each.epsilon)
            left.append(max(noise))
        return max(0, math.floor(min(left)))
