"""Progress of a local run: a live bar on a terminal, plain lines elsewhere. Counts batch files, never data."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from transforms.work_folder import WorkFolder

_LOOK_SECONDS = 0.2
_LINE_SECONDS = 10.0


@contextmanager
def shown(console: Console, folder: WorkFolder, steps: int) -> Iterator[None]:
    """Shows progress while the body runs.

    Args:
        steps: how many files the run will write into the folder.
    """
    done = threading.Event()
    watch = _bar if console.is_terminal else _lines
    thread = threading.Thread(target=watch, args=(console, folder, steps, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _count(folder: WorkFolder) -> int:
    return sum(1 for place in (folder.batches, folder.staged) for _ in place.iterdir())


def _bar(console: Console, folder: WorkFolder, steps: int, done: threading.Event) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("running", total=steps)
        while not done.wait(_LOOK_SECONDS):
            progress.update(task, completed=min(_count(folder), steps))


def _lines(console: Console, folder: WorkFolder, steps: int, done: threading.Event) -> None:
    while not done.wait(_LINE_SECONDS):
        console.print(f"running: {min(_count(folder) / steps, 1):.0%}")
