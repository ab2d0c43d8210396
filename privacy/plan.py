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
from privacy.vectors import Vector

SELECTION_PART = 0.01
"""Of delta, for all private selections together."""

MOST_STAGES = 255
"""With at most 2^32 keys of one unit, fewer than 2^40 coordinates change."""


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
    """Noise on one vector of a metric."""

    vector: Vector


@dataclass(frozen=True, kw_only=True)
class MetricPlan:
    metric: Metric
    stages: tuple[VectorStage, ...]


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """A release's stages; `selection` is None where the keys are public."""

    release: Release
    bounds: Bounds
    selection: SelectionStage | None
    metrics: tuple[MetricPlan, ...]

    @property
    def name(self) -> str:
        return self.release.name

    @property
    def vectors(self) -> tuple[VectorStage, ...]:
        return tuple(stage for metric in self.metrics for stage in metric.stages)

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
        return tuple(dict.fromkeys(tally for stage in self.vectors for tally in stage.vector.tallies))


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
    """A stage before its noise is known; `metric` is None for the selection."""

    name: str
    share: float
    grid: Grid
    norm: int
    metric: Metric | None = None
    vector: Vector | None = None


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
    if len(stages) > MOST_STAGES:
        raise PlanError(f"releases: need {len(stages)} stages, more than {MOST_STAGES}; release less at once")
    select_total = sum(draft.share for draft in stages if draft.metric is None)
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
    """The stages of a release that has this fraction of the budget: its selection, if any, then the metrics' parts."""
    drafts = [_Draft("select", release.selection.share, GRID, NORM)] if release.selection else []
    for metric in release.metrics:
        for part in metric.parts(bounds):
            name = f"{metric.name}.{part.label}" if part.label else metric.name
            share = metric.share * part.weight
            drafts.append(_Draft(name, share, part.vector.grid, part.vector.norm, metric, part.vector))
    total = sum(draft.share for draft in drafts)
    return [replace(draft, share=draft.share / total * fraction) for draft in drafts]


def _release_plan(
    release: Release, bounds: Bounds, rows: int | None, drafts: list[_Draft], mu: float, delta_per_share: float
) -> ReleasePlan:
    selection = None
    stages: dict[str, list[VectorStage]] = {metric.name: [] for metric in release.metrics}
    for draft in drafts:
        # Rounded up, so that the float arithmetic of this line costs nobody's privacy.
        scale = draft.norm / math.sqrt(draft.share) / mu * (1 + 1e-12)
        if release.selection is not None and draft.metric is None:
            selection = _selection(release.selection.cap, rows, draft, scale, delta_per_share * draft.share)
        elif draft.metric is not None and draft.vector is not None:
            stage = VectorStage(
                name=draft.name,
                share=draft.share,
                grid=draft.grid,
                norm=draft.norm,
                scale=scale,
                vector=draft.vector,
            )
            stages[draft.metric.name].append(stage)
    metrics = tuple(MetricPlan(metric=metric, stages=tuple(stages[metric.name])) for metric in release.metrics)
    return ReleasePlan(release=release, bounds=bounds, selection=selection, metrics=metrics)


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
