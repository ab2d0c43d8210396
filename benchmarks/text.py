"""Discreet on CSV and JSON Lines against Parquet: the same events, whole processes in turn.

usage: python -m benchmarks.text [RUNS]      default 5
"""

import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.csv as pc
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.compare import DATA, SIZES, cells, discreet, measure
from benchmarks.make_events import make_events


def write_plain(source: Path, target: Path) -> None:
    """CSV without a quote."""
    pc.write_csv(pq.read_table(source), target, pc.WriteOptions(quoting_style="none"))


def write_quoted(source: Path, target: Path) -> None:
    """CSV with quotes around every string."""
    pc.write_csv(pq.read_table(source), target)


def write_json(source: Path, target: Path) -> None:
    """JSON Lines."""
    with duckdb.connect() as connection:
        connection.read_parquet(str(source)).to_table("events")
        connection.execute(f"copy events to '{target}' (format json)")


FORMATS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "CSV": ("csv", write_plain),
    "CSV, strings quoted": ("csv", write_quoted),
    "JSON Lines": ("jsonl", write_json),
}


def make_text(events: Path, folder: Path, ending: str, write: Callable[[Path, Path], None]) -> None:
    """Writes a text file for each Parquet file. Does nothing where the folder is there."""
    if folder.exists():
        return
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for source in sorted(events.iterdir()):
        write(source, part / f"{source.stem}.{ending}")
    part.rename(folder)


def main(runs: int) -> None:
    DATA.mkdir(exist_ok=True)
    table = Table(box=box.MARKDOWN)
    for heading in ("events", "format", "Discreet", "peak", "ratio of times"):
        table.add_column(heading, justify="left" if heading == "format" else "right")
    for size, numbers in SIZES.items():
        events = DATA / f"events-{size}"
        make_events(*numbers, events)
        folders = {"Parquet": events}
        for name, (ending, write) in FORMATS.items():
            folders[name] = DATA / f"{events.name}-{write.__name__.removeprefix('write_')}"
            make_text(events, folders[name], ending, write)
        for path in (path for folder in folders.values() for path in folder.iterdir()):
            path.read_bytes()
        turns = [{name: measure(discreet(folder)) for name, folder in folders.items()} for _ in range(runs + 1)][1:]
        for name in folders:
            ratio = statistics.median(turn[name].seconds / turn["Parquet"].seconds for turn in turns)
            table.add_row(size, name, *cells([turn[name] for turn in turns]), f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
