"""How long a ledger of ten years takes: 3,650 charges of the sample config, without windows, and one for each day.

usage: python -m benchmarks.ledger

Whole processes, medians of 5: to charge one more run, and to show what is spent; beside them a process that only imports.
"""

import datetime
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from ledger.book import Window
from ledger.entries import Entry, next_entry
from ledger.ledger import Ledger, Request
from ledger.store import Store, open_store
from pipelines.config import load_config
from pipelines.spending import request
from privacy.plan import make_plan
from privacy.pots import Limit

CHARGES = 3650
"""Ten years of nightly runs."""

LIMIT = Limit(epsilon=1e5, delta=0.5)
"""Room for all of them."""

_CONFIG = Path(__file__).parents[1] / "configs" / "grocery.yaml"
_FIRST = datetime.date(2020, 1, 1)
_REPEATS = 5


def request_of(number: int, windows: bool) -> Request:
    """What the sample config asks for its run of a day."""
    config = load_config(str(_CONFIG), {})
    asked = request(config, make_plan(config.budget, config.releases), f"run-{number}", [])
    day = _FIRST + datetime.timedelta(number)
    window: Window | None = (day, day) if windows else None
    return replace(asked, limit=LIMIT, window=window)


def fill(store: Store, windows: bool) -> None:
    """A ledger with ten years of charges, all settled. The first is charged as a run does it, the others repeat its content."""
    ledger = Ledger(store)
    first = request_of(0, windows)
    ledger.reserve(first)
    entries, _ = store.entries(first.dataset)
    charge, last = entries[-1].content, entries[-1]
    added: list[Entry] = []
    for number in range(1, CHARGES):
        day = (_FIRST + datetime.timedelta(number)).isoformat()
        changes = {"run": f"run-{number}", "window": [day, day] if windows else None}
        last = next_entry(first.dataset, last, "charge", charge | changes)
        settled = next_entry(first.dataset, last, "settle", {"run": f"run-{number}"})
        added += [last, settled]
        last = settled
    assert store.append(added)


def seconds(command: Sequence[str]) -> float:
    """How long a process takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def reserve(url: str, number: int, windows: bool) -> float:
    """Charges a run, in this process, which has read nothing of the ledger before. Seconds, without the config's own."""
    asked = request_of(number, windows)
    start = time.perf_counter()
    ledger = Ledger(open_store(url))
    ledger.check(asked, ledger.book(asked.dataset))
    ledger.reserve(asked)
    return time.perf_counter() - start


def main() -> None:
    table = Table(box=box.MARKDOWN)
    for heading in ("3,650 charges", "import only", "charge, whole process", "of it the ledger", "show, whole process", "file"):
        table.add_column(heading, justify="left" if heading.startswith("3") else "right")
    discreet = str(Path(sys.executable).with_name("discreet"))
    imports = statistics.median(seconds([sys.executable, "-c", "import benchmarks.ledger"]) for _ in range(_REPEATS))
    with tempfile.TemporaryDirectory() as folder:
        for windows in (False, True):
            file = Path(folder) / f"{windows}.db"
            url = f"sqlite:///{file}"
            open_store(url).create()
            fill(open_store(url), windows)
            code = "import sys; from benchmarks.ledger import reserve; print(reserve(sys.argv[1], int(sys.argv[2]), {}))"
            whole, inner = [], []
            for number in range(_REPEATS):
                start = time.perf_counter()
                command = [sys.executable, "-c", code.format(windows), url, str(CHARGES + number)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                whole.append(time.perf_counter() - start)
                inner.append(float(done.stdout))
            show = [seconds([discreet, "ledger", "show", "--ledger", url]) for _ in range(_REPEATS)]
            medians = [imports, statistics.median(whole), statistics.median(inner), statistics.median(show)]
            cells = [f"{median:.2f} s" for median in medians]
            table.add_row("one window a day" if windows else "no windows", *cells, f"{file.stat().st_size / 1e6:.1f} MB")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
