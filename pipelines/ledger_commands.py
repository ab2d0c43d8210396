"""`discreet ledger ...`: what was spent, what is left, and whether the records fit together."""

import argparse
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.bar import Bar
from rich.console import Console, Group
from rich.table import Table

from ledger.book import Book, Charge, read_book
from ledger.entries import Entry
from ledger.ledger import Ledger
from ledger.store import Store, open_store
from pipelines.manifests import charged_manifests
from pipelines.which_ledger import VARIABLE, default_path
from privacy.pots import Limit
from transforms.errors import CheckError, ConfigError


@dataclass(frozen=True)
class Said:
    """What a command has to say: JSON values, and how to show them."""

    values: Any
    show: Callable[[Console], None]


def run_ledger_command(known: argparse.Namespace) -> Said:
    """Does what `discreet ledger` was asked for.

    Raises:
        DiscreetError: with the exit status and one sentence for the user.
    """
    store = open_store(_url(known))
    if known.action == "init":
        if not store.create():
            raise ConfigError(f"ledger {store.name}: is there already; nothing was changed")
        return _said({"made": store.name}, f"Made the ledger {store.name}. Keep it as safe as the data.")
    ledger = Ledger(store)
    if known.action == "limit":
        return _limit(known, ledger)
    if known.action == "copy":
        return _copy(store, open_store(known.to))
    books = [book for book in ledger.books() if known.dataset in (None, book.dataset)]
    if known.dataset is not None and not books:
        raise ConfigError(f"ledger {ledger.name}: nothing was ever charged on dataset {known.dataset}; correct its name")
    actions: dict[str, Callable[[], Said]] = {
        "show": lambda: _show(ledger, books),
        "runs": lambda: _runs(books),
        "verify": lambda: _verify(ledger, books),
        "export": lambda: _export(books, known.file),
    }
    return actions[known.action]()


def _url(known: argparse.Namespace) -> str | Path:
    if known.ledger:
        return str(known.ledger)
    declared = _declared(known.config) if known.config else None
    if declared:
        if "${" in declared:
            raise ConfigError(f"{known.config}: ledger.url holds a variable; name the ledger with --ledger")
        return declared
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    if known.config:
        return default_path(known.config)
    here = Path(".discreet/ledger.db")
    found = [path for path in (here, *sorted(Path().glob("*/.discreet/ledger.db"))) if path.exists()]
    if len(found) > 1:
        raise ConfigError(f"ledger: there are several here ({', '.join(map(str, found))}); name one with --config or --ledger")
    return found[0] if found else here


def _declared(config: str) -> str | None:
    from pipelines.config import declared_ledger

    return declared_ledger(config)


def _said(values: Any, text: str) -> Said:
    return Said(values, lambda console: console.print(text))


def _show(ledger: Ledger, books: list[Book]) -> Said:
    summaries = [_summary(book) for book in books]

    def show(console: Console) -> None:
        console.print(f"Ledger {ledger.name}")
        if not books:
            console.print("Nothing was charged yet.")
        for book, summary in zip(books, summaries, strict=True):
            _show_book(console, book, summary)

    return Said({"ledger": ledger.name, "datasets": summaries}, show)


def _summary(book: Book) -> dict[str, Any]:
    epsilon = book.epsilon()
    states = [charge.state for charge in book.charges]
    return {
        "dataset": book.dataset,
        "privacy_unit": book.unit,
        "limit": asdict(book.limit),
        "spent": book.part(),
        "guarantee": {"epsilon": epsilon if math.isfinite(epsilon) else None, "delta": book.limit.delta},
        "runs": {state: states.count(state) for state in ("settled", "reserved", "void")},
    }


def _show_book(console: Console, book: Book, summary: dict[str, Any]) -> None:
    unit = book.unit
    who = f"any {unit['rows']} rows" if unit["rows"] else f"each {' and '.join(unit['columns'])}"
    console.print(f"\nDataset {book.dataset}, which protects {who}")
    console.print(Bar(1.0, 0.0, min(1.0, summary["spent"]), width=40))
    console.print(
        f"{summary['spent']:.1%} of the limit is spent, {max(0.0, 1 - summary['spent']):.1%} is left. The limit: epsilon "
        f"{book.limit.epsilon:g}, delta {book.limit.delta:g}, for all runs together and for ever."
    )
    if summary["guarantee"]["epsilon"] is not None:
        console.print(
            f"What was published so far is together ({summary['guarantee']['epsilon']:.3g}, {book.limit.delta:g})-differentially "
            f"private if no run was chosen by what an earlier one showed. However runs are chosen, they stay within the limit."
        )
    counts = summary["runs"]
    open_runs = f", {counts['reserved']} started and not published" if counts["reserved"] else ""
    console.print(f"{counts['settled']} runs published{open_runs}.")
    valid = [charge for charge in book.charges if charge.state != "void"]
    largest = sorted(valid, key=lambda charge: book.limit.part(charge.pots), reverse=True)[:5]
    if largest:
        console.print(Group("What spent most:", _table(book, largest)))


def _table(book: Book, charges: list[Charge]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("run", "state", "when", "window"):
        table.add_column(heading)
    table.add_column("of the limit", justify="right")
    for charge in charges:
        values = _charge_json(book, charge)
        table.add_row(charge.run, charge.state, values["time"], _window(charge), f"{values['part']:.2%}")
    return table


def _window(charge: Charge) -> str:
    return "all time" if charge.window is None else f"{charge.window[0]} to {charge.window[1]}"


def _charge_json(book: Book, charge: Charge) -> dict[str, Any]:
    return {
        "dataset": book.dataset,
        "number": charge.number,
        "run": charge.run,
        "state": charge.state,
        "time": charge.content["time"],
        "window_from": charge.window[0].isoformat() if charge.window else None,
        "window_to": charge.window[1].isoformat() if charge.window else None,
        **{name: float(value) for name, value in vars(charge.pots).items()},
        "part": 0.0 if charge.state == "void" else book.limit.part(charge.pots),
        "config_digest": charge.content["config_digest"],
        "digest": charge.digest,
    }


def _runs(books: list[Book]) -> Said:
    values = [_charge_json(book, charge) for book in books for charge in book.charges]

    def show(console: Console) -> None:
        for book in books:
            console.print(Group(f"Dataset {book.dataset}", _table(book, list(book.charges))))

    return Said({"runs": values}, show)


def _verify(ledger: Ledger, books: list[Book]) -> Said:
    """Reading the books has walked the digests; what is left is to compare them with what was published."""
    outputs = sorted({charge.content["output"] for book in books for charge in book.charges})
    known = {(book.dataset, charge.run): charge.digest for book in books for charge in book.charges if charge.state != "void"}
    datasets = {book.dataset for book in books}
    faults, compared = [], 0
    for output in outputs:
        for path, manifest in charged_manifests(Path(output), datasets):
            compared += 1
            if known.get((manifest["dataset"], manifest["run"])) != manifest["charge"]:
                faults.append(f"{path}: its charge is not in the ledger, or is another; restore the newest ledger")
    if faults:
        raise CheckError("\n".join(faults))
    entries = sum(book.last.number for book in books)
    return _said(
        {"ledger": ledger.name, "entries": entries, "manifests": compared, "faults": []},
        f"Ledger {ledger.name}: {entries} entries hold together, and so do the {compared} manifests that were found.",
    )


def _limit(known: argparse.Namespace, ledger: Ledger) -> Said:
    limit = Limit(epsilon=known.epsilon, delta=known.delta)
    if not (0 < known.epsilon <= 1e15 and 0 < known.delta < 1) or not limit.leaves_room:
        raise ConfigError("ledger limit: epsilon must be above 0 and delta between 1e-14 and 1, and leave room; correct them")
    if not known.reason.strip():
        raise ConfigError("ledger limit: --reason is empty; say why, it is kept for ever")
    ledger.set_limit(known.dataset, limit, known.reason)
    said = f"Dataset {known.dataset} may now spend epsilon {known.epsilon:g}, delta {known.delta:g} in all."
    return _said({"dataset": known.dataset, "limit": asdict(limit)}, said)


def _export(books: list[Book], file: str) -> Said:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from transforms.work_folder import create_if_absent

    rows = [_charge_json(book, charge) for book in books for charge in book.charges]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows) if rows else pa.table({}), sink, compression="zstd")
    if not create_if_absent(Path(file), sink.getvalue().to_pybytes()):
        raise ConfigError(f"{file}: is there already; remove it, or name another file")
    return _said({"file": file, "rows": len(rows)}, f"Wrote {len(rows)} charges to {file}.")


def _copy(source: Store, target: Store) -> Said:
    """Copies every entry as it is, digests included, so that manifests still fit."""
    rows: list[tuple[Entry, str]] = []
    for dataset in source.datasets():
        entries, digests = source.entries(dataset)
        read_book(entries, digests)
        rows += zip(entries, digests, strict=True)
    if not target.create(rows):
        raise ConfigError(f"ledger {target.name}: is there already; copy into a new one")
    said = f"Copied {len(rows)} entries to {target.name}. Name it in every config now, and put the old one away."
    return _said({"entries": len(rows), "to": target.name}, said)
