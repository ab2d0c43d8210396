"""R1 and R3: killed before each operation on files in turn, and at random moments; then started again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CHUNKS = 4


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file by its path, temporary ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def problems_of(case: Path) -> list[str]:
    """What a reader could complain of, who looked at the moment of the kill and looks again at the end."""
    seen, final = files_below(case / "seen"), files_below(case / "out")
    problems = []
    manifest = json.loads(final["_runs/one.json"])
    whole = {file["path"]: final[file["path"]] for file in manifest["files"]}
    if "_runs/one.json" in seen:
        problems += [f"R3: {name} was not there, but the manifest was" for name in whole if seen.get(name) != final[name]]
    for name, data in seen.items():
        if name.endswith(".parquet"):
            release, part = Path(name).parts[-3 if "run=one" in name else -2], Path(name).name
            if not whole[f"{release}/run=one/{part}"].startswith(data):
                problems.append(f"R1: another draw of {release} could be read in {name}")
    problems += [f"left in the output: {name}" for name in final if name not in {"_runs/one.json", *whole}]
    left = {path.name for path in (case / "out.private").rglob("*")} - {".one.lock"}  # an empty file, which no run waits for
    problems += [f"left in private: {name}" for name in left]
    return problems


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_r1_r3_killed_before_each_operation(project, chunk):
    """At most one draw is ever visible, the manifest comes last, and the next start publishes and cleans up."""
    template = project.root / "cases/template"
    project.config["output"]["files"] = 2
    project.config["releases"].append(project.release | {"name": "another", "metrics": project.release["metrics"][:1]})
    template.mkdir(parents=True)
    project.write_config().rename(template / "config.yaml")
    (project.root / "events").rename(template / "events")
    script = [sys.executable, str(Path(__file__).with_name("killed_at.py")), "cases", str(chunk + 1), str(CHUNKS)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(script, cwd=project.root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    cases: list[dict[str, Any]] = json.loads(ended.stdout)
    assert len(cases) > 10
    assert {case["committed"] for case in cases} == {True, False}
    assert all(case["ended"] == -signal.SIGKILL for case in cases[:-1])
    assert [case["again"] for case in cases] == [0] * len(cases)
    folders = [project.root / "cases" / case["case"] for case in cases]
    assert any(list((folder / "seen").rglob("*.parquet")) and not (folder / "seen/_runs/one.json").exists() for folder in folders)
    problems = {folder.name: problems_of(folder) for folder in folders}
    assert not {name: found for name, found in problems.items() if found}


@pytest.fixture
def big(project) -> Any:
    """A project with 600,000 events in several row groups: seconds of work."""
    dice = np.random.default_rng(1)
    rows = 600_000
    table = pa.table(
        {
            "user": dice.integers(0, 100_000, rows),
            "shop": pa.array([f"shop-{number:03d}" for number in range(500)]).take(pa.array(dice.integers(0, 500, rows))),
            "price": dice.random(rows) * 10,
            "quantity": pa.array(dice.integers(0, 5, rows), pa.int32()),
        }
    )
    for number in range(4):
        project.write_events(table.slice(number * rows // 4, rows // 4), f"events/{number}.parquet", row_group_size=50_000)
    (project.root / "events/a.parquet").unlink()
    project.write_config()
    return project


def wait_for(process: "subprocess.Popen[str]", path: Path, pattern: str) -> bool:
    """Until a file that matches is there. False where the process came to its end before one was seen."""
    until = time.monotonic() + 60
    while not any(path.glob(pattern)):
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[1]
            return False
        assert time.monotonic() < until
        time.sleep(0.005)
    return True


MOMENTS = {
    "starting": ("out.private", ".*.lock"),
    "reading": ("out.private", "one/*/batches/*"),
    "staging": ("out.private", "one/*/staged/*"),
    "publishing": ("out", "_runs/.one.part/*"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_r1_kill_9_and_run_again(big, moment):
    """A real process, killed a little after each moment."""
    folder, pattern = MOMENTS[moment]
    for _ in range(5):
        process = big.start("run", "config.yaml", "--run-id", "one", "--json")
        if wait_for(process, big.root / folder, pattern):
            break
        shutil.rmtree(big.root / "out")
        big.new_ledger()
    else:
        pytest.fail("the moment was missed five times")
    time.sleep(random.random() * 0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (big.root / "out").mkdir(exist_ok=True)
    (big.root / "out").rename(big.root / "seen")
    subprocess.run(["cp", "-a", "seen", "out"], cwd=big.root, check=True)
    again = big.process("run", "config.yaml", "--run-id", "one", "--json")
    assert again.status == 0, again.err
    assert problems_of(big.root) == []
    assert big.table()["shop"].to_pylist() == sorted(big.table()["shop"].to_pylist())
    assert pq.read_metadata(big.parts()[0]).num_rows > 100


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(big, number, status, workers):
    """Ctrl-C and a scheduler's stop: 130 and 143, one sentence, nothing published, no traceback; a rerun works."""
    call = ["run", "config.yaml", "--run-id", "one", "--json", f"--direct_num_workers={workers}"]
    process = big.start(*call)
    assert wait_for(process, big.root / "out.private", "one/*/batches/*")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert (out, "Traceback" in err) == ("", False)
    assert "nothing was published" in err
    big.assert_nothing_published()
    assert big.process(*call).status == 0
    assert big.leftovers() == []


@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0])
def test_interrupted_while_starting(project, delay):
    """While modules are imported: 130, or Python's own end by the signal, which shells call 130 as well."""
    process = project.start("run", str(project.write_config()), "--run-id", "one", "--json")
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130, -signal.SIGINT), err
    assert project.process("run", "config.yaml", "--run-id", "one", "--json").status == 0


LATE = """
import signal, os
from pipelines import cli, private_folder
def interrupted(folder):
    os.kill(os.getpid(), signal.{signal})
private_folder.PrivateFolder.remove = interrupted
raise SystemExit(cli.main(["run", "config.yaml", "--run-id", "one", "--json", "--direct_num_workers=1"]))
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_interrupted_after_publishing(project, name, status):
    """The manifest is there: the sentence must not say that nothing was published."""
    project.write_config()
    script = [sys.executable, "-c", LATE.format(signal=name)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(script, cwd=project.root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (project.root / "out/_runs/one.json").exists()
    assert ended.returncode in (0, status)
    assert "nothing was published" not in ended.stderr
    again = project.run()
    assert (again.status, again.json["drawn"]) == (0, False)
    assert project.leftovers() == []
