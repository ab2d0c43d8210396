"""The plan: the budget resolved into one noise scale per stage, before any data is read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from privacy.gaussian import COLLISION, LEAST_DELTA, largest_mu, tail_quantile
from privacy.grid import Grid, Ints
from privacy.metrics.base import Bounds, Metric
from privacy.release import Budget, Release
from privacy.selection import GRID, NORM, row_weights, selection_weights, threshold
from privacy.tallies import Tally
from privacy.vectors import BinVector, Vector

SELECTION_PART = 0.01
"""Of delta, for all private selections together."""

MOST_STAGES = 255
"""With at most 2^32 events of one unit, fewer than 2^40 coordinates change. A tree counts as two."""


class PlanError(ValueError):
    """The budget cannot be resolved."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One DP mechanism of a release: Gaussian noise on a vector over keys.

    Attributes:
        share: fraction of the run's mu^2, in (0, 1].
        norm: L2 norm of one unit's part, in steps of the grid.
        scale: standard deviation of the noise, in steps.
    """

    name: str
    share: float
    grid: Grid
    norm: int
    scale: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, in units of the value."""
        return self.scale * self.grid.step

    @property
    def multiplier(self) -> float:
        return self.scale / self.norm


@dataclass(frozen=True, kw_only=True)
class SelectionStage(Stage):
    """The selection of private keys: weight per key, at most `cap` keys of a unit, kept from `threshold` steps on.

    Attributes:
        weights: of a unit in each of its d keys, for d in 0..cap. int64, (cap + 1,), steps.
    """

    cap: int
    delta: float
    threshold: int
    weights: Ints = field(repr=False, compare=False)

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
    stages: tuple[VectorStage, ...]


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """A release's stages; `selection` is None where the keys are public.

    Attributes:
        vectors: each once.
        metrics: each with the stages of its parts, which are among `vectors`.
    """

    release: Release
    bounds: Bounds
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
    def tallies(self) -> tuple[Tally, ...]:
        """What is added up per unit and key, each once."""
        return tuple(dict.fromkeys(tally for vector in self.totals for tally in vector.tallies))

    @property
    def totals(self) -> tuple[Vector, ...]:
        """The vectors with one number per key."""
        return tuple(stage.vector for stage in self.vectors if not isinstance(stage.vector, BinVector))

    @property
    def bins(self) -> tuple[BinVector, ...]:
        """The vectors with one number per key and bin."""
        return tuple(stage.vector for stage in self.vectors if isinstance(stage.vector, BinVector))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Guarantee: everything that the stages publish together is (epsilon, delta)-DP. Source: docs/guarantee.md, "Composition"."""

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
    """A stage before its noise is known; `vector` is None for the selection."""

    name: str
    share: float
    grid: Grid
    norm: int
    vector: Vector | BinVector | None = None


def make_plan(budget: Budget, releases: Sequence[Release], rows: int | None = None) -> Plan:
    """Splits the budget over the stages by their shares, and calibrates their noise. Pure; never looks at data.

    Args:
        releases: with bounds, or without where `rows` is given.
        rows: any so many rows are the privacy unit; otherwise None.

    Raises:
        PlanError: delta is too small for any noise to keep it, or there are too many stages.
    """
    total = sum(release.share for release in releases)
    drafts = [_drafts(release, _bounds(release, rows), release.share / total) for release in releases]
    stages = [draft for parts in drafts for draft in parts]
    changed = sum(draft.vector.levels if isinstance(draft.vector, BinVector) else 1 for draft in stages)
    if changed > MOST_STAGES:
        raise PlanError(f"releases: need {changed} stages, more than {MOST_STAGES}; release less at once")
    select_total = sum(draft.share for draft in stages if draft.vector is None)
    delta_selection = budget.delta * SELECTION_PART if select_total else 0.0
    delta_noise = budget.delta - delta_selection - COLLISION
    if delta_noise < LEAST_DELTA:
        raise PlanError(f"budget.delta: {budget.delta:g} is too small to be kept; write {2 * LEAST_DELTA:g} or more")
    mu = largest_mu(budget.epsilon, delta_noise, min(draft.norm / math.sqrt(draft.share) for draft in stages))
    return Plan(
        epsilon=budget.epsilon,
        delta=budget.delta,
        mu=mu,
        delta_selection=delta_selection,
        releases=tuple(
            _release_plan(release, _bounds(release, rows), rows, parts, mu, delta_selection / (select_total or 1.0))
            for release, parts in zip(releases, drafts, strict=True)
        ),
        rows=rows,
    )


def _bounds(release: Release, rows: int | None) -> Bounds:
    """The release's bounds; k rows together add at most what one unit with one key of k rows may."""
    if rows is not None:
        return Bounds(keys_per_unit=1, rows_per_key=rows)
    if release.bounds is None:
        raise PlanError(f"releases: {release.name} has no bounds; add them")
    return release.bounds


def _drafts(release: Release, bounds: Bounds, fraction: float) -> list[_Draft]:
    """The stages of a release that has this fraction of the budget: its selection, if any, then each vector of the metrics.

    A vector that several metrics need is drawn once, with the shares of all.
    """
    drafts = [_Draft("select", release.selection.share, GRID, NORM)] if release.selection else []
    needed: dict[Vector | BinVector, list[tuple[str, float]]] = {}
    for metric in release.metrics:
        for part in metric.parts(bounds):
            name = f"{metric.name}.{part.label}" if part.label else metric.name
            needed.setdefault(part.vector, []).append((name, metric.share * part.weight))
    for vector, uses in needed.items():
        names, shares = zip(*uses, strict=True)
        drafts.append(_Draft("+".join(names), sum(shares), vector.grid, vector.norm, vector))
    total = sum(draft.share for draft in drafts)
    return [replace(draft, share=draft.share / total * fraction) for draft in drafts]


def _release_plan(
    release: Release, bounds: Bounds, rows: int | None, drafts: list[_Draft], mu: float, delta_per_share: float
) -> ReleasePlan:
    selection = None
    stages: dict[Vector | BinVector, VectorStage] = {}
    for draft in drafts:
        # Rounded up, so that the float arithmetic of this line costs nobody's privacy.
        scale = draft.norm / math.sqrt(draft.share) / mu * (1 + 1e-12)
        if draft.vector is not None:
            stages[draft.vector] = VectorStage(
                name=draft.name,
                share=draft.share,
                grid=draft.grid,
                norm=draft.norm,
                scale=scale,
                vector=draft.vector,
            )
        elif release.selection is not None:
            selection = _selection(release.selection.cap, rows, draft, scale, delta_per_share * draft.share)
    metrics = tuple(
        MetricPlan(metric=metric, stages=tuple(stages[part.vector] for part in metric.parts(bounds)))
        for metric in release.metrics
    )
    return ReleasePlan(release=release, bounds=bounds, selection=selection, vectors=tuple(stages.values()), metrics=metrics)


def _selection(cap: int, rows: int | None, draft: _Draft, scale: float, delta: float) -> SelectionStage:
    if rows is None:
        weights = most = selection_weights(cap)
    else:
        weights, most = row_weights(rows)
    return SelectionStage(
        name=draft.name,
        share=draft.share,
        grid=draft.grid,
        norm=draft.norm,
        scale=scale,
        cap=len(weights) - 1,
        delta=delta,
        threshold=threshold(most, scale, delta),
        weights=weights,
    )
