"""From a config to what its run asks of the ledger."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console

from ledger.book import Book, Window
from ledger.ledger import DEFAULT_LIMIT, Ledger, Request
from ledger.store import open_store
from pipelines.config import Config
from pipelines.events_config import LookupConfig
from pipelines.manifests import charged_manifests
from pipelines.statement import plan_json
from pipelines.which_ledger import VARIABLE, default_path
from privacy.plan import Plan, PlanError, make_plan
from privacy.pots import Limit, Pots, cost
from privacy.release import Budget
from transforms.errors import CheckError, InputError
from transforms.file_state import FileState
from transforms.text_events import is_text

if TYPE_CHECKING:
    from transforms.sum_by_unit import UnitInput


def open_ledger(config: Config, config_path: str, console: Console) -> Ledger:
    """The ledger that a config spends from. The default one is made where it is missing, with a notice.

    Raises:
        BudgetError: a ledger is declared, and there is none.
    """
    store = open_store(ledger_url(config, config_path))
    if not _declared(config) and not store.exists():
        for path, _ in charged_manifests(Path(config.output.path), {config.dataset}):
            raise CheckError(f"{path}: was charged, but ledger {store.name} is gone; restore it")
        if store.create():
            limit = declared_limit(config) or DEFAULT_LIMIT
            console.print(
                f"Made the ledger {default_path(config_path)}. It keeps what runs on dataset {config.dataset} spend: epsilon "
                f"{limit.epsilon:g}, delta {limit.delta:g} in all. Keep it as safe as the data."
            )
    return Ledger(store)


def _declared(config: Config) -> str | None:
    return (config.ledger.url if config.ledger else None) or os.environ.get(VARIABLE)


def ledger_url(config: Config, config_path: str) -> str | Path:
    """Where the ledger that a config spends from is: the URL of a database, or the path of its own one."""
    return _declared(config) or default_path(config_path)


def declared_limit(config: Config) -> Limit | None:
    """The limit in the config, if there is one."""
    limit = config.ledger.limit if config.ledger else None
    return None if limit is None else Limit(epsilon=limit.epsilon, delta=limit.delta)


def request(config: Config, plan: Plan, run: str, paths: Sequence[str]) -> Request:
    """What a run asks of the ledger.

    Args:
        paths: of the event files; only their sizes and times are looked at.
    """
    return Request(
        dataset=config.dataset,
        run=run,
        unit=unit_of(config),
        unit_types={},
        window=window_of(config),
        pots=cost(plan),
        stages=[stage | {"release": name} for name, stages in plan_json(plan)["releases"].items() for stage in stages],
        config=config.resolved(),
        config_digest=config.digest(),
        inputs=_fingerprint(paths),
        limit=declared_limit(config),
        fitting=lambda fits: fitting_epsilon(config, fits, config.budget.epsilon),
    )


def unit_of(config: Config) -> dict[str, Any]:
    """Who is protected, in all that must not change while what is spent is added up."""
    events = config.events
    columns = events.privacy_unit.columns
    lookups = {name: lookup for lookup in events.lookups for name in lookup.columns}
    sources = {events.derive[name].truncate if name in events.derive else name for name in columns}
    made = sources
    while found := {by for name in made if name in lookups for by in lookups[name].by} - sources:
        sources, made = sources | found, found
    text = any(is_text(path) for path in events.files)
    return {
        "columns": list(columns),
        "rows": events.privacy_unit.rows,
        "periods": {name: events.derive[name].model_dump(mode="json") for name in columns if name in events.derive},
        "spellings": {name: list(events.normalise[name]) for name in sorted(sources) if name in events.normalise},
        "lookups": {name: _table(lookups[name]) for name in sorted(sources) if name in lookups},
        "written": [events.csv.timestamps, events.csv.encoding] if text and set(columns) & set(events.derive) else [],
    }


def _table(lookup: LookupConfig) -> dict[str, Any]:
    """A lookup that makes a column of the unit, with what its table holds."""
    try:
        content = Path(lookup.file).read_bytes()
    except OSError:
        raise InputError(f"{lookup.file}: names no file; correct the path") from None
    return {"by": list(lookup.by), "sha256": hashlib.sha256(content).hexdigest()}


def unit_types(unit: "UnitInput") -> dict[str, str]:
    """The types of the unit's columns, integers of all widths being one."""
    return {
        name: "integer" if pa.types.is_integer(kind) else str(kind) for name, kind in zip(unit.columns, unit.types, strict=True)
    }


def window_of(config: Config) -> Window | None:
    """The periods of the privacy unit that a run is about; None for all.

    Only a window on the unit's one period keeps units apart.
    """
    window = config.events.window
    periods = [name for name in config.events.privacy_unit.columns if name in config.events.derive]
    if window is None or periods != [window.column]:
        return None
    return window.first, window.last


@dataclass(frozen=True, kw_only=True)
class Series:
    """How often a config may run.

    Attributes:
        fitting: how many more runs of this config fit into the limit.
        epsilon: the largest for each of `runs` runs, None where so many fit with none.
    """

    limit: Limit
    fitting: int
    runs: int
    epsilon: float | None


def plan_series(config: Config, plan: Plan, config_path: str, runs: int) -> Series:
    """What `runs` more runs of a config may spend each, of what the ledger has left; of the whole limit where there is none."""
    store = open_store(ledger_url(config, config_path))
    book = Ledger(store).book(config.dataset) if store.exists() else None
    limit = book.limit if book else declared_limit(config) or DEFAULT_LIMIT
    window = window_of(config)
    fitting = book.runs(cost(plan), window) if book else limit.runs(cost(plan))

    def fits(each: Pots) -> bool:
        all_runs = each.times(runs)
        return book.fits(all_runs, window) if book else limit.admits(all_runs)

    return Series(limit=limit, fitting=fitting, runs=runs, epsilon=fitting_epsilon(config, fits, limit.epsilon))


def fitting_epsilon(config: Config, fits: Callable[[Pots], bool], most: float) -> float | None:
    """The largest epsilon up to `most` at which the config's plan passes a test of costs, to three digits; None if none does."""

    def passes(epsilon: float) -> bool:
        budget = Budget(epsilon=epsilon, delta=config.budget.delta)
        try:
            return fits(cost(make_plan(budget, config.releases, config.events.privacy_unit.rows)))
        except PlanError:
            return False

    low, high = max(most * 1e-4, 1e-12), most
    if low > high or not passes(low):
        return None
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if passes(middle) else (low, middle)
    step = 10.0 ** (math.floor(math.log10(low)) - 2)
    rounded = math.floor(low / step) * step
    return float(f"{rounded:.3g}") if passes(float(f"{rounded:.3g}")) else float(f"{rounded - step:.3g}")


def left(config: Config, plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """What is left of a dataset's limit where least is, and for how many more runs of a plan that is enough."""
    book = ledger.book(config.dataset)
    assert book is not None
    window = window_of(config)
    return {"url": ledger.name, "part_left": max(0.0, 1 - book.part(window)), "runs_left": book.runs(cost(plan), window)}


def check_published(ledger: Ledger, book: Book | None, output: Path, dataset: str) -> None:
    """Compares the newest manifests with the ledger's book, so that one that was lost or set back is noticed.

    Raises:
        CheckError: a published run of the dataset is not in the ledger as it was.
    """
    known = {charge.digest for charge in book.charges if charge.state != "void"} if book else set()
    for path, manifest in islice(charged_manifests(output, {dataset}), _NEWEST):
        if manifest["charge"] not in known:
            raise CheckError(
                f"{path}: its charge is not in ledger {ledger.name}, which is older than what was published, or another one; "
                f"restore the newest ledger"
            )


_NEWEST = 20


def _fingerprint(paths: Sequence[str]) -> str:
    states = [(path, *vars(FileState.of(path)).values()) for path in paths]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()
