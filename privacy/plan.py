"""The plan: the budget resolved into one noise scale per stage, before any data is read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from privacy.bounds import UnitBounds
from privacy.gaussian import COLLISION, LEAST_DELTA, largest_mu, tail_quantile
from privacy.grid import MOST_STEPS, Grid, Ints
from privacy.metrics.base import Metric, Part
from privacy.mixture import least_factor
from privacy.noise import GaussianNoise, LaplaceNoise, Noise
from privacy.release import Budget, Release
from privacy.selection import GRID, NORM, row_weights, selection_weights, threshold
from privacy.tallies import Tally
from privacy.vectors import BinVector, Vector

SELECTION_PART = 0.01
"""Of delta, for all private selections together."""

MOST_STAGES = 255
"""With at most 2^32 events of one unit, fewer than 2^40 coordinates change. A tree counts as two, each column of a vector sum as
one."""


class PlanError(ValueError):
    """The budget cannot be resolved."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One DP mechanism of a release: noise on a vector over keys.

    Attributes:
        share: fraction of the run's budget, in (0, 1].
        norm: of one unit's part, in steps of the grid; L2 with Gaussian noise, L1 with Laplace noise.
    """

    name: str
    share: float
    grid: Grid
    norm: int
    noise: Noise

    @property
    def scale(self) -> float:
        """Of the noise, in steps: with Gaussian noise its standard deviation."""
        return self.noise.scale

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, in units of the value."""
        return self.noise.deviation * self.grid.step

    @property
    def multiplier(self) -> float:
        return self.scale / self.norm

    @property
    def epsilon(self) -> float | None:
        """Of a stage with Laplace noise alone; None with Gaussian noise."""
        return self.norm / self.scale if self.noise.order == 1 else None


@dataclass(frozen=True, kw_only=True)
class SelectionStage(Stage):
    """The selection of private keys: weight per key, at most `cap` keys of a unit, kept from `threshold` steps on.

    Attributes:
        vector: the count of units that the noisy weights are published as; None where they are not.
        weights: of a unit in each of its d keys, for d in 0..cap. int64, (cap + 1,), steps.
    """

    noise: GaussianNoise
    cap: int
    delta: float
    threshold: int
    weights: Ints = field(repr=False, compare=False)
    vector: Vector | BinVector | None = None

    def units_needed(self, probability: float, keys: int) -> float:
        """How many units with this many keys each make a key appear with this probability."""
        reach = self.threshold - self.scale * tail_quantile(probability)
        return max(1.0, reach / int(self.weights[min(keys, self.cap)]))


@dataclass(frozen=True, kw_only=True)
class VectorStage(Stage):
    """Noise on one vector. Metrics that need the same vector share it; its name names them all."""

    vector: Vector | BinVector


@dataclass(frozen=True, kw_only=True)
class MetricPlan:
    metric: Metric
    stages: tuple[VectorStage | SelectionStage, ...]


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """A release's stages; `selection` is None where the keys are public.

    Attributes:
        vectors: each once, but for one that selects.
        metrics: each with the stages of its parts, which are among `stages`.
    """

    release: Release
    bounds: UnitBounds
    selection: SelectionStage | None
    vectors: tuple[VectorStage, ...]
    metrics: tuple[MetricPlan, ...]

    @property
    def name(self) -> str:
        return self.release.name

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.vectors if self.selection is None else (self.selection, *self.vectors)

    @property
    def cap(self) -> int | None:
        """How many keys of one unit are looked at; None where the keys are public and all are."""
        return None if self.selection is None else self.selection.cap

    @property
    def selected_per_unit(self) -> int:
        """Of how many keys, or private parts of keys, a unit within the bounds may have all of its keys."""
        return -(-self.bounds.keys_per_unit // self.release.keys.combinations)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What is added up per unit and key, each once."""
        return tuple(dict.fromkeys(tally for vector in self.totals for tally in vector.tallies))

    @property
    def totals(self) -> tuple[Vector, ...]:
        """The vectors over keys alone, without bins."""
        return tuple(stage.vector for stage in self.vectors if not isinstance(stage.vector, BinVector))

    @property
    def bins(self) -> tuple[BinVector, ...]:
        """The vectors with one number per key and bin."""
        return tuple(stage.vector for stage in self.vectors if isinstance(stage.vector, BinVector))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Guarantee: everything that the stages publish together is (epsilon, delta)-DP. Source: docs/guarantee.md, "Composition".

    Attributes:
        mu: of the stages with Gaussian noise together; 0 where there are none.
    """

    epsilon: float
    delta: float
    mu: float
    delta_selection: float
    releases: tuple[ReleasePlan, ...]
    rows: int | None

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(stage for release in self.releases for stage in release.stages)


@dataclass(frozen=True)
class _Draft:
    """A stage before its noise is known; `vector` is None for a selection by weights."""

    name: str
    share: float
    grid: Grid
    norm: int
    vector: Vector | BinVector | None = None
    selects: bool = False

    @property
    def order(self) -> int:
        return 2 if self.vector is None else self.vector.order

    @property
    def changed(self) -> int:
        """How many of the numbers that get noise one event changes."""
        if self.vector is None:
            return 1
        return self.vector.levels if isinstance(self.vector, BinVector) else self.vector.width


@dataclass(frozen=True)
class _ReleaseDraft:
    """A release before its noise is known: the parts of each metric, and each vector once."""

    release: Release
    bounds: UnitBounds
    parts: tuple[tuple[Part, ...], ...]
    stages: tuple[_Draft, ...]


def make_plan(budget: Budget, releases: Sequence[Release], rows: int | None = None) -> Plan:
    """Splits the budget over the stages by their shares, and calibrates their noise. Pure; never looks at data.

    Args:
        releases: with bounds, or without where `rows` is given.
        rows: any so many rows are the privacy unit; otherwise None.

    Raises:
        PlanError: delta is too small for any noise to keep it, or there are too many stages.
    """
    total = sum(release.share for release in releases)
    selecting = [release for release in releases if release.selection]
    if selecting and not budget.delta:
        raise PlanError(
            f"budget.delta: is 0, but the keys of release {selecting[0].name} are private, and which of them are shown takes "
            f"some of it; list them in keys.values, or write a delta above 0"
        )
    delta_selection = budget.delta * SELECTION_PART if selecting else 0.0
    delta_noise = max(budget.delta - delta_selection - COLLISION, 0.0)
    # What the choice between the two kinds of noise is made by; rounding, which depends on it, is too little to matter.
    mu = largest_mu(budget.epsilon, delta_noise, 2.0**29) if delta_noise >= LEAST_DELTA else 0.0
    drafts = [_draft(release, rows, release.share / total, mu / budget.epsilon) for release in releases]
    stages = [stage for draft in drafts for stage in draft.stages]
    changed = sum(stage.changed for stage in stages)
    if changed > MOST_STAGES:
        raise PlanError(f"releases: need {changed} stages, more than {MOST_STAGES}; release less at once")
    gaussian = [stage for stage in stages if stage.order == 2]
    if delta_noise < LEAST_DELTA and (budget.delta or gaussian):
        zero = "" if selecting else ", or 0 and bounds.noise: laplace in each release"
        raise PlanError(f"budget.delta: {budget.delta:g} is too small to be kept; write {2 * LEAST_DELTA:g} or more{zero}")
    calibration = _calibrate(budget.epsilon, delta_noise, stages)
    select_total = sum(stage.share for stage in stages if stage.selects)
    return Plan(
        epsilon=budget.epsilon,
        delta=budget.delta,
        mu=calibration.mu * math.sqrt(sum(stage.share for stage in gaussian)) if len(gaussian) < len(stages) else calibration.mu,
        delta_selection=delta_selection,
        releases=tuple(_release_plan(draft, rows, calibration, delta_selection / (select_total or 1.0)) for draft in drafts),
        rows=rows,
    )


@dataclass(frozen=True)
class _Calibration:
    """What a stage that had the whole budget would be: Gaussian of this mu, or Laplace of this epsilon."""

    mu: float
    epsilon: float

    def noise(self, stage: _Draft) -> Noise:
        # Rounded up, so that the float arithmetic of these lines costs nobody's privacy.
        if stage.order == 1:
            return LaplaceNoise(stage.norm / stage.share / self.epsilon * (1 + 1e-12))
        return GaussianNoise(stage.norm / math.sqrt(stage.share) / self.mu * (1 + 1e-12))


def _calibrate(epsilon: float, delta: float, stages: Sequence[_Draft]) -> _Calibration:
    gaussian = [stage for stage in stages if stage.order == 2]
    if not gaussian:
        return _Calibration(0.0, epsilon / least_factor(epsilon, delta, tuple(epsilon * stage.share for stage in stages)))
    least = min(stage.norm / math.sqrt(stage.share) for stage in gaussian)
    mu = largest_mu(epsilon, delta, least)
    if len(gaussian) == len(stages):
        return _Calibration(mu, epsilon)
    part = math.sqrt(sum(stage.share for stage in gaussian))
    epsilons = tuple(epsilon * stage.share for stage in stages if stage.order == 1)
    factor = least_factor(epsilon, delta, epsilons, mu * part, least * part)
    return _Calibration(mu / factor, epsilon / factor)


def _bounds(release: Release, rows: int | None) -> UnitBounds:
    """The release's bounds; k rows together add at most what one unit with one key of k rows may."""
    if rows is not None:
        if release.pairs or any(metric.limits_units for metric in release.metrics):
            raise PlanError(f"releases: {release.name} is about units, but any {rows} rows are the unit; remove what is")
        return UnitBounds(keys_per_unit=1, rows_per_key=rows)
    if release.bounds is None:
        raise PlanError(f"releases: {release.name} has no bounds; add them")
    return release.bounds.unit


def _draft(release: Release, rows: int | None, fraction: float, mu_over_epsilon: float) -> _ReleaseDraft:
    """The stages of a release that has this fraction of the budget: its selection, if any, then each vector of the metrics.

    A vector that several metrics need is drawn once, with the shares of all.
    """
    bounds = _bounds(release, rows)
    stages: list[_Draft] = []
    needed: dict[Vector | BinVector, list[tuple[str, float]]] = {}
    selecting = release.selecting and release.selecting.parts(bounds)[0].vector
    if release.selection is not None and selecting:
        needed[selecting] = [("select", release.selection.share)]
    elif release.selection is not None:
        stages.append(_Draft("select", release.selection.share, GRID, NORM, selects=True))
    total = (release.selection.share if release.selection else 0) + sum(metric.share for metric in release.metrics)
    bounds_of = [bounds] * len(release.metrics)
    if release.bounds is not None and release.bounds.noise == "auto":
        parts_of_budget = (metric.share / total * fraction for metric in release.metrics)
        bounds_of = [
            _with_less_noise(metric, bounds, mu_over_epsilon, part)
            for metric, part in zip(release.metrics, parts_of_budget, strict=True)
        ]
    metric_parts = release.parts(bounds_of)
    for metric, parts in zip(release.metrics, metric_parts, strict=True):
        for part in parts:
            name = f"{metric.name}.{part.label}" if part.label else metric.name
            needed.setdefault(part.vector, []).append((name, metric.share * part.weight))
    for vector, uses in needed.items():
        names, shares = zip(*uses, strict=True)
        stages.append(_Draft("+".join(names), sum(shares), vector.grid, vector.norm, vector, vector == selecting))
    total = sum(stage.share for stage in stages)
    shared = tuple(replace(stage, share=stage.share / total * fraction) for stage in stages)
    if not all(1 <= stage.norm <= MOST_STEPS for stage in shared):
        raise PlanError(f"releases: {release.name} has bounds beyond what integers hold; narrow its bounds and clips")
    return _ReleaseDraft(release, bounds, metric_parts, shared)


def _with_less_noise(metric: Metric, bounds: UnitBounds, mu_over_epsilon: float, fraction: float) -> UnitBounds:
    """The bounds with the noise of the smaller standard deviation, in the weighted geometric mean over a metric's parts.

    A norm that is given means another bound with each kind of noise: the two do not compare, and the noise is Gaussian.
    """
    laplace = replace(bounds, order=1)
    if not mu_over_epsilon:
        return bounds if metric.norm_is_given else laplace
    log_ratio = 0.0
    for one, other in zip(metric.parts(bounds), metric.parts(laplace), strict=True):
        norms = other.vector.norm * other.vector.grid.step / (one.vector.norm * one.vector.grid.step)
        log_ratio += one.weight * math.log(math.sqrt(2 / (fraction * one.weight)) * norms * mu_over_epsilon)
    return laplace if log_ratio < 0 and not metric.norm_is_given else bounds


def _release_plan(draft: _ReleaseDraft, rows: int | None, calibration: _Calibration, delta_per_share: float) -> ReleasePlan:
    selection = None
    stages: dict[Vector | BinVector | None, VectorStage | SelectionStage] = {}
    for stage in draft.stages:
        noise = calibration.noise(stage)
        if stage.selects and draft.release.selection is not None:
            weights = _weights(stage, draft.bounds, draft.release.selection.cap, rows)
            selection = _selection(weights, stage, noise.scale, delta_per_share * stage.share)
            stages[stage.vector] = selection
        elif stage.vector is not None:
            stages[stage.vector] = VectorStage(
                name=stage.name, share=stage.share, grid=stage.grid, norm=stage.norm, noise=noise, vector=stage.vector
            )
    return ReleasePlan(
        release=draft.release,
        bounds=draft.bounds,
        selection=selection,
        vectors=tuple(stage for stage in stages.values() if isinstance(stage, VectorStage)),
        metrics=tuple(
            MetricPlan(metric=metric, stages=tuple(stages[part.vector] for part in parts))
            for metric, parts in zip(draft.release.metrics, draft.parts, strict=True)
        ),
    )


def _weights(draft: _Draft, bounds: UnitBounds, cap: int, rows: int | None) -> tuple[Ints, Ints]:
    """What a unit adds to each of its keys, and the largest weight in each of d keys that one unit alone has."""
    if rows is not None:
        return row_weights(rows)
    one = 1 << -draft.grid.exponent
    weights = selection_weights(cap) if draft.vector is None else bounds.weights(one, draft.norm, cap)
    return weights, weights


def _selection(weights: tuple[Ints, Ints], draft: _Draft, scale: float, delta: float) -> SelectionStage:
    own, most = weights
    return SelectionStage(
        name=draft.name,
        share=draft.share,
        grid=draft.grid,
        norm=draft.norm,
        noise=GaussianNoise(scale),
        cap=len(own) - 1,
        delta=delta,
        threshold=threshold(most, scale, delta),
        weights=own,
        vector=draft.vector,
    )
