"""Discreet against DuckDB without privacy: whole processes in turn, wall time and peak memory.

usage: python -m benchmarks.compare [RUNS]      default 5; writes benchmarks/data/results.json
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.make_events import make_events

HERE = Path(__file__).parent
DATA = HERE / "data"
SIZES = {"1M": (10**6, 10**5, 10**4, 4), "10M": (10**7, 10**6, 10**5, 16)}


@dataclass(frozen=True)
class Measured:
    """One run of a whole process."""

    seconds: float
    megabytes: float


def measure(command: list[str]) -> Measured:
    """Runs a command and waits for it.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return Measured(seconds, usage.ru_maxrss / 1024)


def discreet(events: Path) -> list[str]:
    """The command of a fresh release."""
    out = DATA / "out"
    shutil.rmtree(out, ignore_errors=True)
    config = str(HERE / "shop.yaml")
    command = [str(Path(sys.executable).parent / "discreet"), "run", config, "--run-id", uuid.uuid4().hex]
    return [*command, "--var", f"events={events}", "--var", f"out={out}"]


def duckdb(events: Path) -> list[str]:
    """The command of the comparator, in an environment of its own."""
    python = DATA / "venv-duckdb" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(DATA / "venv-duckdb")], check=True)
        requirements = str(HERE / "requirements-duckdb.txt")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
    return [str(python), str(HERE / "duckdb_bounded.py"), str(events), str(DATA / "duckdb.parquet")]


def main(runs: int) -> None:
    DATA.mkdir(exist_ok=True)
    results = {}
    table = Table(box=box.MARKDOWN)
    for heading in ("events", "Discreet", "peak", "DuckDB, no privacy", "peak", "ratio of times"):
        table.add_column(heading, justify="right")
    for size, numbers in SIZES.items():
        events = DATA / f"events-{size}"
        make_events(*numbers, events)
        for path in events.iterdir():
            path.read_bytes()
        pairs = [(measure(discreet(events)), measure(duckdb(events))) for _ in range(runs + 1)][1:]
        ratio = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
        ours, theirs = ([pair[place] for pair in pairs] for place in (0, 1))
        table.add_row(size, *cells(ours), *cells(theirs), f"{ratio:.2f}")
        results[size] = {
            "ratio": ratio,
            "discreet": [asdict(one) for one in ours],
            "duckdb": [asdict(one) for one in theirs],
        }
    Console().print(table)
    (DATA / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def cells(measured: list[Measured]) -> tuple[str, str]:
    seconds = statistics.median(one.seconds for one in measured)
    return f"{seconds:.1f} s", f"{max(one.megabytes for one in measured) / 1000:.2f} GB"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
