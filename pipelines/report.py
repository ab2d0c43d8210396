"""What a person reads on the terminal: the plan as a table, and how a run ended."""

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.config import Config
from pipelines.statement import guarantee, pairs_note, protected, units_note
from privacy.intervals import COVERAGE
from privacy.plan import Plan, SelectionStage, Stage

if TYPE_CHECKING:
    from pipelines.spending import Series


def print_plan(console: Console, config: Config, plan: Plan, name: str) -> None:
    """The stages of each release with what they cost and how far off they make a number."""
    console.print(f"Plan of {name}: epsilon {plan.epsilon:g}, delta {plan.delta:g}, dataset {config.dataset}")
    console.print(protected(config))
    for release in plan.releases:
        table = Table(box=box.SIMPLE_HEAD, title=f"release {release.name}", title_justify="left")
        table.add_column("stage", overflow="fold")
        for heading in ("budget", "bound", "noise", "std. dev.", "95% interval"):
            table.add_column(heading, justify="right")
        for stage in release.stages:
            table.add_row(stage.name, f"{stage.share:.1%}", *_cells(stage))
        console.print(table)
        for note in (pairs_note(release.release), units_note(plan, release)):
            if note:
                console.print(note)
    console.print(
        "budget: part of the run's, by the shares in the config (1 where omitted). bound: norm of what one unit may add, L2 with "
        "Gaussian noise, L1 with Laplace noise. noise: discrete, drawn exactly."
    )


def _cells(stage: Stage) -> tuple[str, ...]:
    bound, deviation = stage.norm * stage.grid.step, stage.deviation
    reach = stage.noise.reach(COVERAGE) * stage.grid.step
    interval = f"keeps >= {stage.threshold * stage.grid.step:,.4g}" if isinstance(stage, SelectionStage) else f"+- {reach:,.4g}"
    return f"{bound:,.4g}", stage.noise.mechanism.removeprefix("discrete "), f"{deviation:,.4g}", interval


def print_comparison(console: Console, plans: list[tuple[str, Plan]]) -> None:
    """Two plans side by side: the noise of each stage, and the ratio."""
    (first, before), (second, after) = plans
    table = Table(box=box.SIMPLE_HEAD, title="noise (std. dev.) side by side", title_justify="left")
    for heading in ("release", "stage", first, second, "ratio"):
        table.add_column(heading, justify="left" if heading in ("release", "stage") else "right")
    rows: dict[tuple[str, str], list[Stage | None]] = {}
    for place, plan in enumerate((before, after)):
        for release in plan.releases:
            for stage in release.stages:
                rows.setdefault((release.name, stage.name), [None, None])[place] = stage
    for (release_name, stage_name), (left, right) in rows.items():
        cells = [f"{stage.deviation:,.4g}" if stage else "-" for stage in (left, right)]
        ratio = f"{right.deviation / left.deviation:.3f}" if left and right else "-"
        table.add_row(release_name, stage_name, *cells, ratio)
    console.print(table)


def print_series(console: Console, series: "Series") -> None:
    """How often a config may run."""
    console.print(
        f"Of the ledger's limit (epsilon {series.limit.epsilon:g}, delta {series.limit.delta:g}), {series.fitting:,} more runs "
        f"of this config fit."
    )
    if series.epsilon is None:
        console.print(f"{series.runs:,} more runs do not fit with any epsilon: lower budget.delta, or raise the limit.")
    else:
        console.print(f"{series.runs:,} more runs fit with epsilon {series.epsilon:g} each.")


def print_outcome(console: Console, config: Config, outcome: dict[str, Any]) -> None:
    """How a run ended."""
    verb = "Published" if outcome["drawn"] else "Already published, nothing drawn or spent (for new data choose a new --run-id)"
    console.print(f"{verb}: run {outcome['run']} in {outcome['output']}")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("release")
    table.add_column("published keys", justify="right")
    for name, release in outcome["releases"].items():
        table.add_row(name, f"{release['keys']:,}")
    console.print(table)
    for name, release in outcome["releases"].items():
        if release["keys"] == 0:
            console.print(
                f"{name} has no key: none had enough units to be shown. Look at the quarantine and the conditions first, if "
                f"there are any. Then use coarser keys, a smaller keys_per_unit, a larger "
                f"share for select, or a larger epsilon; discreet plan says how many units a key needs."
            )
    spent = outcome["spent"]
    word = "Spent" if outcome["drawn"] else "Spent then"
    console.print(f"{word}: epsilon {spent['epsilon']:g}, delta {spent['delta']:g}. {guarantee(config)}")
    if "ledger" in outcome:
        left = outcome["ledger"]
        console.print(
            f"Ledger {left['url']}: {left['part_left']:.1%} of dataset {config.dataset}'s limit is left, enough for "
            f"{left['runs_left']:,} more runs like this."
        )
    console.print(f"Manifest: {outcome['manifest']}")
    if "quarantine" in outcome:
        console.print(
            f"If {outcome['quarantine']} is there, it holds lines that could not be read: look at it before you use the numbers"
        )
