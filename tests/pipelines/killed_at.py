"""A script, not a test: runs a project again and again, killed before each of its operations on files in turn.

`python killed_at.py FOLDER FIRST STEP`, where FOLDER/template is a project. Case n is killed before its n-th operation; what
is visible then is copied to FOLDER/<n>/seen, and the run is started again. Prints one JSON list of cases.
"""

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

OPERATIONS = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir"}


def kill_before(number: int) -> None:
    """SIGKILL, which nothing can catch, before an operation of this process."""
    seen = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        ours = event in OPERATIONS or (event == "open" and str(arguments[0]).startswith("out"))
        if ours and next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def run_child(folder: Path, prepare: Callable[[], None]) -> int:
    """A run in a forked process, after what is to be prepared there; negative where a signal ended it."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        log = os.open("log.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from pipelines.cli import main

        prepare()
        os._exit(main(["run", "config.yaml", "--run-id", "one", "--json", "--direct_num_workers=1"]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_cases(folder: Path, first: int, step: int) -> list[dict[str, Any]]:
    """Cases until one is not killed any more."""
    cases = []
    for number in itertools.count(first, step):
        case = folder / f"{number:03d}"
        shutil.copytree(folder / "template", case)
        ended = run_child(case, partial(kill_before, number))
        committed = (case / "out.private/one/commit.json").exists()
        (case / "out").mkdir(exist_ok=True)
        shutil.copytree(case / "out", case / "seen")
        cases.append({"case": case.name, "ended": ended, "committed": committed, "again": run_child(case, lambda: None)})
        if ended != -signal.SIGKILL:
            return cases
    raise AssertionError


if __name__ == "__main__":
    import opendp.prelude  # noqa: F401  imported before the fork, so that children start at once

    from pipelines import graph, inputs, publish, report, run  # noqa: F401

    print(json.dumps(run_cases(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
