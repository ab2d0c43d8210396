"""What a plan says, in words and in JSON: to the reader of a manifest, and to whoever runs `discreet plan`."""

from typing import Any

from pipelines.config import Config
from privacy.gaussian import COLLISION
from privacy.intervals import COVERAGE
from privacy.plan import Plan, ReleasePlan, SelectionStage, Stage
from privacy.release import Release


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
        "mechanism": stage.noise.mechanism,
        "share": stage.share,
        "bound": stage.norm * stage.grid.step,
        "grid": stage.grid.step,
        "standard_deviation": stage.deviation,
        "interval_95": stage.noise.reach(COVERAGE) * stage.grid.step,
    }
    if stage.epsilon is not None:
        described["epsilon"] = stage.epsilon
    if isinstance(stage, SelectionStage):
        keys = release.selected_per_unit
        described |= {
            "threshold": stage.threshold * stage.grid.step,
            "delta": stage.delta,
            "keys_looked_at_per_unit": stage.cap,
            "units_to_appear_50": stage.units_needed(0.5, keys),
            "units_to_appear_95": stage.units_needed(0.95, keys),
        }
        if release.release.keys.values is not None:
            described["selected_columns"] = list(release.release.keys.private)
    return described


def protected(config: Config) -> str:
    """Who is protected, and who is not."""
    unit = config.events.privacy_unit
    if unit.rows is not None:
        verb = "are" if unit.rows > 1 else "is"
        return (
            f"Protected {verb} {neighbours(config)}, whoever they are of. Not protected as a whole is somebody with more: with n "
            f"times as many rows, n times less."
        )
    periods = [column for column in unit.columns if column in config.events.derive]
    others = [column for column in unit.columns if column not in periods]
    named = " and ".join(others or unit.columns)
    left_out = f"Events without {' or '.join(unit.columns)} are left out."
    if not periods or not others:
        each = f"each value of {named}" if len(unit.columns) == 1 else f"each combination of {named}"
        return (
            f"Protected is {each}, with all of its events together. {left_out} A person who stands behind several values is "
            f"protected less."
        )
    zones = ", ".join(dict.fromkeys(config.events.derive[period].timezone for period in periods))
    spans = " and each ".join(periods)
    return (
        f"Protected is each {named} in each {spans} ({zones}), with all of its events in that {' and '.join(periods)} "
        f"together. Not protected as a whole is a {named} with events in many: in n of them, n times less. {left_out} A person "
        f"who stands behind several values of {named} is protected less."
    )


def neighbours(config: Config) -> str:
    """What one input of two neighbours has more than the other."""
    unit = config.events.privacy_unit
    if unit.rows is not None:
        return f"any {unit.rows} rows" if unit.rows > 1 else "any single row"
    return f"all events of one {' and '.join(unit.columns)}"


def guarantee(config: Config) -> str:
    """The guarantee in one sentence."""
    ids = "" if config.budget.delta else f", but for a probability below {COLLISION:.1g} that two internal ids are the same"
    return (
        f"Everything that this run publishes is, taken together, ({config.budget.epsilon:g}, {config.budget.delta:g})-"
        f"differentially private with respect to adding or removing {neighbours(config)}{ids}."
    )


def nulls(config: Config) -> str:
    """What becomes of nulls."""
    chosen = config.events.nulls
    unit = "" if config.events.privacy_unit.rows else "An event is left out where the privacy unit is null or empty. "
    keeps = chosen.key == "keep"
    key = "Null is a key like any other" if keeps else "An event is left out of a release where one of its key columns is null"
    others = [release.name for release in config.releases if release.keys.nulls not in (None, chosen.key)]
    if others:
        there = "an event without a key is left out there" if keeps else "null is a key there"
        key += f", but not {'in' if keeps else 'of'} {' and '.join(others)}: {there}"
    value = "counts as 0, cut to the clip." if chosen.value == "zero" else "is left out of the metrics of its column only."
    pair = " No pair has a null." if pairs_json(config) else ""
    return f"{unit}{key}. A value that is null, NaN or infinite {value}{pair}"


def pairs_note(release: Release) -> str | None:
    """What the events of a release of pairs are; None of another."""
    if release.pairs is None:
        return None
    within = " and ".join(release.pairs.within)
    return (
        f"Its events are pairs of two different values of {release.pairs.of} in one basket, which is all that one unit has "
        f"under one {within}. A pair counts once in a basket. At most {release.most_items:,} values of a basket are paired, and "
        f"at most {release.most_pairs:,} pairs of a unit are looked at."
    )


def pairs_json(config: Config) -> dict[str, dict[str, str]]:
    """The notes of the releases of pairs, by their names; nothing where there are none."""
    notes = {release.name: note for release in config.releases if (note := pairs_note(release))}
    return {"pairs": notes} if notes else {}


INTERVALS = (
    "Columns _low and _high hold an interval of the noise around the bounded value that is true in at least 95% of draws. What "
    "the bounds and the clips cut off is not in it."
)


def statement(config: Config, run: str, plan: Plan, versions: dict[str, str]) -> dict[str, Any]:
    """The manifest of a run, but for the files."""
    return {
        "manifest_version": 2,
        "dataset": config.dataset,
        "run": run,
        "guarantee": guarantee(config),
        "protected": protected(config),
        "epsilon": config.budget.epsilon,
        "delta": config.budget.delta,
        "neighbours": f"add or remove {neighbours(config)}",
        "nulls": nulls(config),
        **pairs_json(config),
        "intervals": INTERVALS,
        "plan": plan_json(plan),
        "config": config.resolved(),
        "config_digest": config.digest(),
        "versions": versions,
    }


def units_note(plan: Plan, release: ReleasePlan) -> str | None:
    """How many units a key, or its private part, needs to appear. None where keys are public."""
    if release.selection is None:
        return None
    declared = release.release.keys
    public, one, several = "", "key", "keys"
    if declared.values is not None:
        listed, selected = (" and ".join(columns) for columns in (declared.values, declared.private))
        one, several = (f"{word} of {selected}" for word in ("combination", "combinations"))
        if len(declared.private) == 1:
            one, several = f"value of {selected}", f"values of {selected}"
        every = "every listed value" if len(declared.values) == 1 else "every combination of the listed values"
        public = f"Public: {listed}. Selected: {selected}; what appears of it does so with {every} of {listed}. "
    keys = release.selected_per_unit
    half, most = (release.selection.units_needed(probability, keys) for probability in (0.5, 0.95))
    units = "units" if plan.rows is None else "events"
    each = f", if those have {keys} {one if keys == 1 else several} each" if plan.rows is None else ""
    alone = "of a single unit" if plan.rows is None else f"that only {plan.rows} rows have"
    return (
        f"{public}A {one} appears with 50% probability where it has {half:,.0f} {units}, with 95% where it has {most:,.0f}"
        f"{each}; no {one} {alone} appears, but with probability {release.selection.delta:.1g}."
    )
