"""F4: each call on a run's files fails once, or from then on, on a disk that is full or broken; then the run is started again."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.failing_at import TRACE, WAYS, Call, Calls, Ended, run_case

SLOW = bool(os.environ.get("DISCREET_SLOW"))
HERE = Path(__file__).parent
CHUNKS = 4
CASES, PROCESSES = 80, 6
"""Of the default suite: how many are looked at in forked processes, and how many in processes of their own."""

EVERY_CALL = ("full once", "full", "broken once", "broken")
"""How every call fails, where the others are made to fail once for each file."""

KEYS = 12
EVENTS = [f"{TRACE}-ID-{unit},{TRACE}-KEY-{key},{(unit + key) % 10}" for unit in range(60) for key in range(KEYS)]
RELEASE = {"keys": {"columns": ["shop"]}, "bounds": {"keys_per_unit": KEYS, "rows_per_key": 1}}
CONFIG = {
    "version": 1,
    "dataset": "shops",
    "events": {"files": "events/*.csv", "privacy_unit": "user", "types": {"price": "float64"}},
    "budget": {"epsilon": 50, "delta": 1e-4},
    "releases": [
        {"name": "by_shop", "metrics": [{"name": "takings", "sum": "price", "clip": [0, 10]}]} | RELEASE,
        {"name": "another", "metrics": [{"name": "visits", "count": "events"}]} | RELEASE,
    ],
    "output": {"path": "out", "files": 2},
    "ledger": {"limit": {"epsilon": 1e14, "delta": 0.9}},
}


def on(calls: list[Call], path: str) -> list[Call]:
    return [call for call in calls if call.path.startswith(path)]


EARLIER: dict[str, Callable[[list[Call]], Call]] = {
    "reading": lambda calls: on(calls, "out.private/one/*/staged/")[0],
    "publishing": lambda calls: on(calls, "out/_runs/one.json")[0],
    "settling": lambda calls: [call for call in on(calls, ".discreet/ledger.db") if "write" in call.name][-1],
    "tidying": lambda calls: on(calls, "out.private/one/*/staged")[-1],
}
"""Starts before the one that is looked at: before which of its calls each was killed."""

Ask = Callable[..., dict[str, Any]]
Case = tuple[str, str, Call]
"""What was before, how the call fails, and which one it is."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lets calls fail. Skips where it cannot be made."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("no Linux, or no C compiler: F4 is untested here")
    made = tmp_path_factory.mktemp("failing") / "failing_calls.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, HERE / "failing_calls.c", "-ldl"], check=True)
    return made


def new_folder(root: Path) -> Path:
    """A folder with a project in `nothing`: a file with a line that cannot be read, two releases, and no ledger yet."""
    (root / "nothing/events").mkdir(parents=True)
    (root / "nothing/tmp").mkdir()
    lines = ["user,shop,price", *EVENTS[:100], f"{TRACE},{TRACE},{TRACE}", *EVENTS[100:]]
    (root / "nothing/events/a.csv").write_text("".join(line + "\n" for line in lines))
    (root / "nothing/config.yaml").write_text(json.dumps(CONFIG))
    return root.resolve()


def environment(folder: Path, library: Path) -> dict[str, str]:
    """Of a process of which calls fail."""
    root = str(HERE.parents[1])
    return os.environ | {"LD_PRELOAD": str(library), "FAILING_CALLS": str(folder / "calls"), "PYTHONPATH": root}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_folder(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def ask(folder: Path, library: Path) -> Iterator[Ask]:
    """Runs a case in forked processes and returns its outcome."""
    Calls(folder / "calls")
    script = [sys.executable, str(HERE / "failing_at.py"), str(folder)]
    with subprocess.Popen(
        script, env=environment(folder, library), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def asked(**case: Any) -> dict[str, Any]:
            print(json.dumps(case), file=process.stdin, flush=True)
            outcome: dict[str, Any] = json.loads(process.stdout.readline())
            return outcome | {"calls": [Call(*call) for call in outcome["calls"]]}

        yield asked
        process.stdin.close()


def counted(ask: Ask, before: str, way: str = "full") -> list[Call]:
    """The calls of a run, none of which fails."""
    outcome = ask(before=before, way=way, call=None)
    assert (outcome["status"], outcome["problems"], outcome["published"]) == (0, [], True)
    calls: list[Call] = outcome["calls"]
    return calls


def fits(call: Call, way: str) -> bool:
    """Whether a call can fail in this way."""
    if WAYS[way].error == errno.ENOSPC:
        return call.name not in ("unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchown", "utimensat")
    return "write" in call.name if way == "half" else True


def each_once(calls: Iterable[Call]) -> list[Call]:
    """One of the calls of each name on each path, in the middle of them."""
    groups: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        groups.setdefault((call.name, call.path), []).append(call)
    return [group[len(group) // 2] for group in groups.values()]


def sample(cases: list[Any], most: int) -> list[Any]:
    """Cases that are evenly spread over all."""
    return [cases[number * len(cases) // most] for number in range(most)]


@pytest.fixture(scope="module")
def cases(ask: Ask, folder: Path) -> list[Case]:
    """Every case where that may take long, and a sample of them elsewhere."""
    writing, reading = counted(ask, "nothing"), counted(ask, "nothing", "unreadable")
    cases = []
    for way, how in WAYS.items():
        calls = reading if how.reads else writing
        calls = calls if SLOW and way in EVERY_CALL else each_once(calls)
        cases += [("nothing", way, call) for call in calls if fits(call, way)]
    known = {(call.name, call.path) for call in (*reading, *writing)}
    for name, last in EARLIER.items():
        assert ask(before="nothing", way="killed", call=last(writing), keep=name)["status"] == -signal.SIGKILL
        if name == "reading":  # and so was a run of another id
            shutil.copytree(folder / name / "out.private/one", folder / name / "out.private/another")
        found = {reads: each_once(counted(ask, name, "unreadable" if reads else "full")) for reads in (False, True)}
        for way, how in WAYS.items():
            calls = [call for call in found[how.reads] if name != "reading" or (call.name, call.path) not in known]
            cases += [(name, way, call) for call in calls if fits(call, way)]
    assert len(cases) > 1000
    return cases if SLOW else sample(cases, CASES)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_f4_each_call_fails(ask, cases, chunk):
    """One clear sentence or a whole release; never less in the ledger than can be seen; and the next start publishes."""
    met, problems = Counter[tuple[int, bool]](), []
    for before, way, call in cases[chunk::CHUNKS]:
        outcome = ask(before=before, way=way, call=call)
        met[outcome["status"], outcome["published"]] += 1
        if outcome["problems"]:
            problems.append((before, way, call, outcome["complaint"], outcome["problems"]))
    assert not problems
    assert met.keys() >= {(0, True), (5, False), (5, True), (-signal.SIGKILL, False)}, met


@pytest.mark.parametrize("chunk", range(2))
def test_f4_the_installed_command(folder, library, chunk):
    """The same of processes of their own, which work in two threads."""
    calls = Calls(folder / "calls")

    def start(place: Path, arguments: tuple[str, ...], prepare: Callable[[], None]) -> Ended:
        prepare()
        command = [str(Path(sys.executable).with_name("discreet")), *arguments]
        command = ["--direct_num_workers=2" if argument == "--direct_num_workers=1" else argument for argument in command]
        variables = environment(folder, library) | {"TMPDIR": str(place / "tmp")}
        ended = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, timeout=120, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def ask(**case: Any) -> dict[str, Any]:
        return run_case(folder, calls, **case, start=start)

    made = each_once(counted(ask, "nothing"))
    cases = [(way, call) for way in ("broken once", "full") for call in made if fits(call, way)]
    chosen = (cases if SLOW else sample(cases, PROCESSES))[chunk::2]
    outcomes = [(way, call, ask(before="nothing", way=way, call=call)) for way, call in chosen]
    assert 5 in {outcome["status"] for _, _, outcome in outcomes}
    assert not [outcome for outcome in outcomes if outcome[2]["problems"]]
