"""From a config to what its run asks of the ledger."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ledger.book import Window
from ledger.ledger import DEFAULT_LIMIT, Ledger, Request
from ledger.store import Store
from pipelines.config import Config
from pipelines.statement import plan_json
from privacy.plan import Plan, PlanError, make_plan
from privacy.pots import Limit, Pots, cost
from privacy.release import Budget
from transforms.errors import CheckError
from transforms.file_state import FileState
from transforms.text_events import is_csv, is_json

VARIABLE = "DISCREET_LEDGER"
"""The environment's variable that says where the ledger is, where the config does not."""


def default_path(config_path: str) -> Path:
    """Where the ledger of a config is if nothing says otherwise."""
    return Path(config_path).parent / ".discreet" / "ledger.db"


def open_ledger(config: Config, config_path: str, console: Console) -> Ledger:
    """The ledger that a config spends from. The default one is made where it is missing, with a notice.

    Raises:
        BudgetError: a ledger is declared, and there is none.
    """
    store = Store(ledger_url(config, config_path))
    if not _declared(config) and not store.exists() and store.create():
        limit = declared_limit(config) or DEFAULT_LIMIT
        console.print(
            f"Made the ledger {default_path(config_path)}. It keeps what runs on dataset {config.dataset} spend: epsilon "
            f"{limit.epsilon:g}, delta {limit.delta:g} in all. Keep it as safe as the data."
        )
    return Ledger(store)


def _declared(config: Config) -> str | None:
    return (config.ledger.url if config.ledger else None) or os.environ.get(VARIABLE)


def ledger_url(config: Config, config_path: str) -> str:
    """Where the ledger that a config spends from is."""
    return _declared(config) or f"sqlite:///{default_path(config_path)}"


def declared_limit(config: Config) -> Limit | None:
    """The limit in the config, if there is one."""
    limit = config.ledger.limit if config.ledger else None
    return None if limit is None else Limit(epsilon=limit.epsilon, delta=limit.delta)


def request(config: Config, plan: Plan, run: str, paths: Sequence[str], place: str) -> Request:
    """What a run asks of the ledger.

    Args:
        paths: of the event files; only their sizes and times are looked at.
        place: of the run's private folder.
    """
    return Request(
        dataset=config.dataset,
        run=run,
        unit=unit_of(config),
        unit_types=unit_types(config),
        window=window_of(config),
        pots=cost(plan),
        stages=[stage | {"release": name} for name, stages in plan_json(plan)["releases"].items() for stage in stages],
        config=config.resolved(),
        config_digest=config.digest(),
        inputs=_fingerprint(paths),
        place=place,
        limit=declared_limit(config),
        fitting=lambda fits: fitting_epsilon(config, fits, config.budget.epsilon),
    )


def unit_of(config: Config) -> dict[str, Any]:
    """Who is protected, in all that must not change while what is spent is added up."""
    events = config.events
    columns = events.privacy_unit.columns
    return {
        "columns": list(columns),
        "rows": events.privacy_unit.rows,
        "periods": {name: events.derive[name].model_dump(mode="json") for name in columns if name in events.derive},
        "spellings": {name: list(events.normalise[name]) for name in columns if name in events.normalise},
    }


def unit_types(config: Config) -> dict[str, str]:
    """The types that a config gives the columns of its unit: text where a text file has none declared. Parquet has its own."""
    events = config.events
    text = any(is_csv(path) or is_json(path) for path in events.files)
    found = {name: events.types.get(name, "string" if text else "") for name in events.privacy_unit.columns}
    return {name: kind for name, kind in found.items() if kind and name not in events.derive}


def window_of(config: Config) -> Window | None:
    """The periods of the privacy unit that a run is about; None for all.

    A window on another column than the unit's own period does not keep units apart.
    """
    window = config.events.window
    if window is None or window.column not in config.events.privacy_unit.columns or window.column not in config.events.derive:
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
    store = Store(ledger_url(config, config_path))
    book = Ledger(store).book(config.dataset) if store.exists() else None
    limit = book.limit if book else declared_limit(config) or DEFAULT_LIMIT
    window = window_of(config)
    spent = book.fullest(window) if book else Pots()

    def fits(each: Pots) -> bool:
        all_runs = each.times(runs)
        return book.fits(all_runs, window) if book else limit.admits(all_runs)

    return Series(
        limit=limit, fitting=limit.runs(cost(plan), spent), runs=runs, epsilon=fitting_epsilon(config, fits, limit.epsilon)
    )


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
    return float(f"{low * 0.999:.3g}")


def left(config: Config, plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """What is left of a dataset's limit where least is, and for how many more runs of a plan that is enough."""
    book = ledger.book(config.dataset)
    assert book is not None
    spent = book.fullest(window_of(config))
    part = max(0.0, 1 - book.limit.part(spent))
    return {"url": ledger.name, "part_left": part, "runs_left": book.limit.runs(cost(plan), spent)}


def check_published(ledger: Ledger, output: Path, dataset: str) -> None:
    """Compares the newest manifests with the ledger, so that one that was lost or set back is noticed.

    Raises:
        CheckError: a published run of the dataset is not in the ledger as it was.
    """
    book = ledger.book(dataset)
    known = {charge.digest for charge in book.charges if charge.state != "void"} if book else set()
    for path, manifest in newest_manifests(output, _NEWEST):
        if manifest.get("dataset") == dataset and "charge" in manifest and manifest["charge"] not in known:
            raise CheckError(
                f"{path}: its charge is not in ledger {ledger.name}, which is older than what was published, or another one; "
                f"restore the newest ledger"
            )


_NEWEST = 20


def newest_manifests(output: Path, most: int | None = None) -> list[tuple[Path, dict[str, Any]]]:
    """The manifests of an output folder, the newest first."""
    paths = sorted((output / "_runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    found = []
    for path in paths[:most]:
        try:
            found.append((path, dict(json.loads(path.read_bytes()))))
        except (OSError, ValueError):
            continue  # a damaged manifest is told where it is needed
    return found


def _fingerprint(paths: Sequence[str]) -> str:
    states = [(path, *vars(FileState.of(path)).values()) for path in paths]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()
