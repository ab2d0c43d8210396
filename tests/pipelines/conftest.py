"""A small project in a folder of its own: events, a config, and runs of it in this process or in a real one."""

import copy
import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.store import open_store

UNITS, SHOPS = 60, ("ash", "birch", "cedar")

BASE: dict[str, Any] = {
    "version": 1,
    "dataset": "shops",
    "events": {"files": "events/*.parquet", "privacy_unit": "user"},
    "budget": {"epsilon": 50, "delta": 1e-4},
    "releases": [
        {
            "name": "by_shop",
            "keys": {"columns": ["shop"]},
            "bounds": {"keys_per_unit": 3, "rows_per_key": 4},
            "metrics": [
                {"name": "visits", "count": "events"},
                {"name": "people", "count": "units"},
                {"name": "takings", "sum": "price", "clip": [0, 10]},
                {"name": "items", "sum": "quantity", "clip": [0, 5]},
                {"name": "average", "mean": "price", "clip": [0, 10]},
            ],
        }
    ],
    "output": {"path": "out", "files": 2},
    "ledger": {"limit": {"epsilon": 1e14, "delta": 0.9}},
}


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The lines that say what went wrong."""
        return "\n".join(line for line in self.err.splitlines() if line.startswith("discreet: "))


def shop_events() -> pa.Table:
    """60 units, each 4 times in each of 3 shops: no bound of the base config binds. 720 rows."""
    rows = [(unit, shop, visit) for unit in range(UNITS) for shop in SHOPS for visit in range(4)]
    return pa.table(
        {
            "user": pa.array([unit for unit, _, _ in rows], pa.int64()),
            "shop": [shop for _, shop, _ in rows],
            "price": [float((unit * 7 + visit) % 10) for unit, _, visit in rows],
            "quantity": pa.array([(unit + visit) % 5 for unit, _, visit in rows], pa.int32()),
            "at": pa.array([1_700_000_000 + unit * 86_400 for unit, _, _ in rows], pa.timestamp("s")),
        }
    )


class Project:
    """A working folder with `events/`, `config.yaml` and what runs publish."""

    def __init__(self, root: Path, empty_ledger: Path, capture: Callable[[], tuple[str, str]]) -> None:
        self.root, self._empty_ledger, self._capture = root, empty_ledger, capture
        self.config = copy.deepcopy(BASE)
        self.new_ledger()

    @property
    def base(self) -> pa.Table:
        """The events that a new project has."""
        return shop_events()

    @property
    def release(self) -> dict[str, Any]:
        """The first release of the config."""
        return self.config["releases"][0]

    def new_ledger(self) -> None:
        """An empty ledger beside the config, which is made if there is none."""
        (self.root / ".discreet").mkdir(exist_ok=True)
        shutil.copy(self._empty_ledger, self.root / ".discreet" / "ledger.db")

    def write_events(self, table: pa.Table | None = None, name: str = "events/a.parquet", **options: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(shop_events() if table is None else table, path, **options)
        return path

    def write_config(self, text: str | None = None, name: str = "config.yaml") -> Path:
        """The config as it is now, or this text. JSON is YAML."""
        path = self.root / name
        path.write_text(json.dumps(self.config) if text is None else text)
        return path

    def main(self, *arguments: str) -> Ended:
        """The command in this process."""
        from pipelines.cli import main

        self._capture()
        try:
            status = main(list(arguments))
        except SystemExit as end:
            status = int(end.code or 0)
        return Ended(status, *self._capture())

    def run(self, *arguments: str, run_id: str = "one") -> Ended:
        """Writes the config and runs it in this process, with one worker."""
        path = self.write_config()
        return self.main("run", str(path), "--run-id", run_id, "--json", "--direct_num_workers=1", *arguments)

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """The installed command as a process of its own."""
        command = [str(Path(sys.executable).with_name("discreet")), *arguments]
        return subprocess.Popen(
            command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
        )

    def process(self, *arguments: str) -> Ended:
        """The installed command, waited for."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return Ended(process.returncode, out, err)

    def parts(self, release: str = "by_shop", run_id: str = "one", output: str = "out") -> list[Path]:
        return sorted((self.root / output / release / f"run={run_id}").iterdir())

    def table(self, release: str = "by_shop", run_id: str = "one", output: str = "out") -> pa.Table:
        """The published rows in the order of the files."""
        return pa.concat_tables(pq.ParquetFile(path).read() for path in self.parts(release, run_id, output))

    def manifest(self, run_id: str = "one", output: str = "out") -> dict[str, Any]:
        return json.loads((self.root / output / "_runs" / f"{run_id}.json").read_text())

    def visible(self, output: str = "out") -> dict[str, bytes]:
        """Every file below the output, by its path."""
        root = self.root / output
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    def names(self, folder: str = "out") -> list[str]:
        """Every file and folder below a folder."""
        return sorted(str(path.relative_to(self.root / folder)) for path in (self.root / folder).rglob("*"))

    def leftovers(self) -> list[str]:
        """What is in the default private folder; it is gone after a run, and so is the folder."""
        private = self.root / "out.private"
        return [".", *self.names("out.private")] if private.exists() else []

    def assert_nothing_published(self, output: str = "out") -> None:
        assert not [name for name in self.visible(output) if name.endswith((".parquet", ".json"))]


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without entries: making one takes longer than copying one."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    assert open_store(f"sqlite:///{path}").create()
    return path


@pytest.fixture
def project(
    tmp_path: Path, empty_ledger: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    """A project with the base config and events, as the working folder. Undoes what `main` does to the process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    handler, levels = signal.getsignal(signal.SIGTERM), _levels()
    made = Project(tmp_path, empty_ledger, lambda: tuple(capfd.readouterr()))
    made.write_events()
    yield made
    signal.signal(signal.SIGTERM, handler)
    for name, level in _levels().items():
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET) if level != levels.get(name) else level)


def _levels() -> dict[str, int]:
    known = logging.root.manager.loggerDict
    return {name: logging.getLogger(name).level for name in list(known) if name.startswith("apache_beam")}
