"""A script, not a test: runs a project again and again, and each time another call on its files fails.

`python failing_at.py FOLDER`, with `failing_calls.c` loaded. Reads cases from stdin, one JSON object a line, and answers each
with one: FOLDER/<before> is copied, run while the call fails, looked at, and run again while none does.
"""

import errno
import importlib
import json
import mmap
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

RUN = ("run", "config.yaml", "--json", "--direct_num_workers=1", "--run-id")
VERIFY = ("ledger", "verify", "--config", "config.yaml")
WATCHED = ("out", "out.private", ".discreet", "tmp", "events")
TRACE = "CANARY"
"""In every id and in every value that cannot be read, and in no message."""

IMPORTED = (
    "alembic.command",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "opendp.prelude",
    "pipelines.graph",
    "pipelines.inputs",
    "pipelines.ledger_commands",
    "pipelines.publish",
    "pipelines.run",
    "rich.progress",
    "sqlalchemy.dialects.sqlite",
)
"""Before the fork, so that children start at once."""


class Way(NamedTuple):
    """How a call fails.

    Attributes:
        error: what it reports.
        how: once, with all that follow it, half-written, killed before it, or done and reported as failed.
        reads: whether it is one of the calls that read.
    """

    error: int
    how: str
    reads: bool = False


WAYS = {
    "full once": Way(errno.ENOSPC, "once"),
    "full": Way(errno.ENOSPC, "on"),
    "broken once": Way(errno.EIO, "once"),
    "broken": Way(errno.EIO, "on"),
    "half": Way(0, "half"),
    "killed": Way(0, "killed"),
    "late": Way(errno.EIO, "late"),
    "unreadable once": Way(errno.EIO, "once", True),
    "unreadable": Way(errno.EIO, "on", True),
}
_HOW = ("once", "on", "half", "killed", "late")
_TAKES_SPACE, _CHANGES, _READS = 1, 2, 4
_STATE = struct.Struct("=6Ii64s4096s4096s")  # used, met, failed, at, way, groups, error, name, path, below
_LOG = 1 << 20


class Call(NamedTuple):
    """A call on a file.

    Attributes:
        path: what is random in it is *.
        number: among the calls of this name on this path.
    """

    name: str
    path: str
    number: int


class Calls:
    """The file by which `failing_calls.c` is told what to do, and tells what was done. It has the same layout."""

    def __init__(self, path: Path) -> None:
        """Makes the file where it is missing."""
        size = _STATE.size + _LOG
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def arm(self, folder: Path, way: Way, call: Call | None) -> None:
        """From now on calls on files of a project are noted, and this one fails."""
        name, path, number = call or ("", "", 0)
        groups = _READS if way.reads else _TAKES_SPACE | _CHANGES
        below = ":".join(str(folder / name) for name in WATCHED)
        texts = (name.encode(), str(folder / path).encode(), below.encode())
        _STATE.pack_into(self._map, 0, 0, 0, 0, number, _HOW.index(way.how), groups, way.error, *texts)

    def disarm(self, folder: Path) -> tuple[list[Call], list[Call]]:
        """From now on nothing is noted. Returns the calls that were made, and those of them that failed."""
        used = _STATE.unpack_from(self._map)[0]
        log = bytes(self._map[_STATE.size :][:used]).decode()
        self._map[: _STATE.size] = bytes(_STATE.size)
        made, failed, numbers = list[Call](), list[Call](), Counter[tuple[str, str]]()
        for line in log.splitlines():
            name, outcome, path = line.split(" ", 2)
            path = re.sub("[0-9a-f]{32}", "*", path.removeprefix(f"{folder}/"))
            path = re.sub(r"^tmp/(beam-pipeline-temp)?\w{8}\b", r"tmp/\1*", path)
            numbers[name, path] += 1
            call = Call(name, path, numbers[name, path])
            made.append(call)
            failed += [call] if outcome == "failed" else []
        return made, failed


@dataclass(frozen=True)
class Ended:
    """How a process ended: its status, negative for a signal, and what it printed."""

    status: int
    out: str
    err: str


Start = Callable[[Path, tuple[str, ...], Callable[[], None]], Ended]


def run_child(folder: Path, arguments: tuple[str, ...], prepare: Callable[[], None]) -> Ended:
    """The command in a forked process, after what is to be prepared there."""
    logs = [folder / "stdout.txt", folder / "stderr.txt"]
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for number, log in enumerate(logs, 1):
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
        os.environ["TMPDIR"], tempfile.tempdir = str(folder.resolve() / "tmp"), None
        from pipelines.cli import main

        prepare()
        os._exit(main(arguments))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(status, *(log.read_text() for log in logs))


def nothing() -> None:
    """Prepares no failure."""


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file by its path, temporary ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def charges(folder: Path) -> list[Any]:
    """The charges in the ledger of a project."""
    from ledger.ledger import Ledger
    from ledger.store import open_store

    store = open_store(f"sqlite:///{folder}/.discreet/ledger.db")
    return [charge for book in Ledger(store).books() for charge in book.charges] if store.exists() else []


def look(folder: Path, seen: Path) -> None:
    """Keeps what is visible now, and the ledger as it is now."""
    for name in ("out", ".discreet"):
        (folder / name).mkdir(exist_ok=True)
        shutil.copytree(folder / name, seen / name)


def problems_at_first(first: Ended, failed: list[Call], seen: Path) -> list[str]:
    """What is wrong with how the run ended whose calls failed, and with what it left to be seen. R6."""
    complaints = [line for line in first.err.splitlines() if line.startswith("discreet: ")]
    visible = {name for name in files_below(seen / "out") if name.endswith((".parquet", ".json"))}
    valid = [charge for charge in charges(seen) if charge.state != "void"]
    problems = []
    input_failed = any(call.path.split("/")[0] == "events" for call in failed)
    if first.status not in (0, 5, -signal.SIGKILL) and not (first.status == 4 and input_failed):
        problems.append(f"status {first.status}: {complaints}")
    if len(complaints) != (first.status > 0) or not all("; " in complaint for complaint in complaints):
        problems.append(f"status {first.status}, but not one sentence with a cure: {complaints}")
    others = [line for line in first.err.splitlines() if re.search("Traceback|Error", line) and line not in complaints]
    if others or TRACE in first.err + first.out:
        problems.append(f"data on stderr or stdout, or more than a sentence: {others}")
    if first.status == 0 and ("_runs/one.json" not in visible or [charge.state for charge in valid] != ["settled"]):
        problems.append("status 0, but not published and settled")
    if first.status > 0 and first.out:
        problems.append(f"status {first.status}, but something on stdout")
    if visible and [(charge.run, charge.drawn is not None) for charge in valid] != [("one", True)]:
        problems.append(f"R6: {sorted(visible)} could be read, but the ledger has {valid}")
    return problems


def problems_at_last(folder: Path, seen: Path, again: Ended, verified: Ended) -> list[str]:
    """What is wrong after the run was started again: R1, R3, what was left, and what was charged."""
    if (again.status, verified.status) != (0, 0) or "discreet: " in again.err:
        return [f"again: status {again.status}, verify {verified.status}: {again.err[-300:]} {verified.err[-300:]}"]
    earlier, final = files_below(seen / "out"), files_below(folder / "out")
    manifest = json.loads(final["_runs/one.json"])
    whole = {file["path"]: final[file["path"]] for file in manifest["files"]} | {"_runs/one.json": final["_runs/one.json"]}
    problems = []
    for name, data in earlier.items():
        *_, release, part = name.replace("/run=one", "").split("/")
        part = re.sub(r"^\.(.*)\.[0-9a-f]{32}$", r"\1", part)
        place = "_runs/one.json" if part == "one.json" else f"{release}/run=one/{part}"
        if not whole.get(place, b"").startswith(data):
            problems.append(f"R1: another draw could be read in {name}")
    if "_runs/one.json" in earlier:
        problems += [f"R3: {name} was not there, but the manifest was" for name in whole if earlier.get(name) != whole[name]]
    valid, old = ([charge for charge in charges(place) if charge.state != "void"] for place in (folder, seen))
    if [(charge.run, charge.state, charge.digest) for charge in valid] != [("one", "settled", manifest["charge"])]:
        problems.append(f"the ledger has {valid}")
    if old and old[0].digest != manifest["charge"]:
        problems.append("charged twice")
    return problems + [f"left in the output: {name}" for name in sorted(final.keys() - whole.keys())]


def problems_left(folder: Path, before: Path, status: int, failed: list[Call]) -> list[str]:
    """What is left that no run needs. A file may stay beside the ledger or in tmp where removing it failed, or nobody could."""
    runs = [path.stem for path in (folder / "out/_runs").glob("*.json")]
    kept = {"_quarantine", *(f"_quarantine/{run}{file}" for run in runs for file in ("", "/00000-00000.parquet"))}
    private = names_below(folder / "out.private")
    problems = [f"left in private: {name}" for name in sorted(private - kept)]
    problems += [f"not in private: {name}" for name in sorted(kept - private)]
    if status < 0:
        return problems
    if not any(call.name == "unlink" and call.path.startswith(".discreet/") for call in failed):
        problems += [f"left beside the ledger: {name}" for name in names_below(folder / ".discreet") - {"ledger.db"}]
    if not any(call.path.startswith("tmp") for call in failed):
        problems += [f"left in tmp: {name}" for name in names_below(folder / "tmp") - names_below(before / "tmp")]
    return problems


def run_case(
    folder: Path,
    calls: Calls,
    before: str,
    way: str,
    call: Call | None,
    keep: str | None = None,
    start: Start = run_child,
) -> dict[str, Any]:
    """One case.

    Args:
        before: the project's folder as it is before.
        call: that fails; None for none.
        keep: a name for the project's folder as it is then; the run is not started again.

    Returns:
        status, complaint, calls (that failed; all where none is to fail), whether the run was published, and problems.
    """
    place, seen = folder / "case", folder / "seen"
    for old in (place, seen):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(folder / before, place)
    first = start(place, (*RUN, "one"), lambda: calls.arm(place, WAYS[way], call))
    made, failed = calls.disarm(place)
    look(place, seen)
    problems = problems_at_first(first, failed, seen)
    if keep is not None:
        place.rename(folder / keep)
    elif call is not None:
        again, verified = start(place, (*RUN, "one"), nothing), start(place, VERIFY, nothing)
        problems += problems_at_last(place, seen, again, verified)
        if (folder / before / "out.private/another").exists():
            other = start(place, (*RUN, "another"), nothing)
            problems += [f"the other run: status {other.status}: {other.err[-300:]}"] if other.status else []
        problems += problems_left(place, folder / before, first.status, failed)
    return {
        "status": first.status,
        "complaint": first.err.partition("discreet: ")[2].strip(),
        "calls": made if call is None else failed,
        "published": (seen / "out/_runs/one.json").exists(),
        "problems": problems,
    }


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    folder = Path(sys.argv[1]).resolve()
    calls = Calls(Path(os.environ["FAILING_CALLS"]))
    for line in sys.stdin:
        case = json.loads(line)
        case["call"] = case["call"] and Call(*case["call"])
        print(json.dumps(run_case(folder, calls, **case)), flush=True)
