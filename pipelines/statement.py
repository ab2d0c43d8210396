"""What a plan says, in words and in JSON: to the reader of a manifest, and to whoever runs `discreet plan`."""

from typing import Any

from pipelines.config import Config
from privacy.intervals import QUANTILE
from privacy.plan import Plan, ReleasePlan, SelectionStage, Stage


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values."""
    return {
        "epsilon": plan.epsilon,
        "delta": plan.delta,
        "mu": plan.mu,
        "delta_selection": plan.delta_selection,
        "releases": {release.name: [_stage_json(stage, release) for stage in release.stages] for release in plan.releases},
    }


def _stage_json(stage: Stage, release: ReleasePlan) -> dict[str, Any]:
    described: dict[str, Any] = {
        "stage": stage.name,
        "mechanism": "discrete Gaussian",
        "share": stage.share,
        "bound": stage.norm * stage.grid.step,
        "grid": stage.grid.step,
        "standard_deviation": stage.deviation,
        "interval_95": QUANTILE * stage.deviation,
    }
    if isinstance(stage, SelectionStage):
        keys = release.release.bounds.keys_per_unit
        described |= {
            "threshold": stage.threshold * stage.grid.step,
            "delta": stage.delta,
            "keys_looked_at_per_unit": stage.cap,
            "units_to_appear_50": stage.units_needed(0.5, keys),
            "units_to_appear_95": stage.units_needed(0.95, keys),
        }
    return described


def protected(config: Config) -> str:
    """Who is protected, and who is not."""
    unit = " and ".join(config.events.privacy_unit)
    each = f"each value of {unit}" if len(config.events.privacy_unit) == 1 else f"each combination of {unit}"
    return (
        f"Protected is {each}, with all of its events together. Events without {unit} are left out. A person who stands "
        f"behind several values is protected less."
    )


def guarantee(config: Config) -> str:
    """The guarantee in one sentence."""
    unit = " and ".join(config.events.privacy_unit)
    return (
        f"Everything that this run publishes is, taken together, ({config.budget.epsilon:g}, {config.budget.delta:g})-"
        f"differentially private with respect to adding or removing all events of one {unit}."
    )


NULLS = (
    "An event is left out where the privacy unit is null or empty, and from a release where one of its key columns is null. "
    "A value that is null, NaN or infinite is left out of the metrics of its column only."
)
INTERVALS = (
    "Columns _low and _high hold the 95% interval of the noise around the bounded value. What the bounds and the clips cut "
    "off is not in it."
)


def statement(config: Config, run: str, plan: Plan, versions: dict[str, str]) -> dict[str, Any]:
    """The manifest of a run, but for the files."""
    return {
        "manifest_version": 1,
        "dataset": config.dataset,
        "run": run,
        "guarantee": guarantee(config),
        "protected": protected(config),
        "epsilon": config.budget.epsilon,
        "delta": config.budget.delta,
        "neighbours": "add or remove all events of one privacy unit",
        "nulls": NULLS,
        "intervals": INTERVALS,
        "plan": plan_json(plan),
        "config": config.resolved(),
        "config_digest": config.digest(),
        "versions": versions,
    }


def units_note(release: ReleasePlan) -> str | None:
    """How many units a key needs to appear. None where keys are public."""
    if release.selection is None:
        return None
    keys = release.release.bounds.keys_per_unit
    half, most = (release.selection.units_needed(probability, keys) for probability in (0.5, 0.95))
    return (
        f"A key appears with 50% probability where it has {half:,.0f} units, with 95% where it has {most:,.0f}, "
        f"if those have {keys} keys each; no key of a single unit appears, but with probability {release.selection.delta:.1g}."
    )
