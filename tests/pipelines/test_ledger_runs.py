"""Whole runs and their ledger: what is refused, what is free, and that a process that dies never leaves less than is visible."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.book import Book
from ledger.ledger import Ledger
from ledger.store import open_store
from pipelines import publish as publish_module
from pipelines.config import parse_config
from pipelines.private_folder import PrivateFolder
from pipelines.spending import fitting_epsilon, unit_of
from privacy.plan import make_plan
from privacy.pots import Limit, cost
from privacy.release import Budget
from tests.servers import PostgreSQL
from transforms import read_events

SLOW = bool(os.environ.get("DISCREET_SLOW"))
TIMES = 20 if SLOW else 1
DEFAULT = ".discreet/ledger.db"


class Died(BaseException):
    """The process is gone."""


def ledger_of(project: Any, file: str = DEFAULT) -> Ledger:
    return Ledger(open_store(f"sqlite:///{project.root / file}"))


def book_of(project: Any, file: str = DEFAULT) -> Book:
    """The book of the project's dataset, which there is."""
    book = ledger_of(project, file).book("shops")
    assert book is not None
    return book


def states(project: Any, file: str = DEFAULT) -> list[tuple[str, str]]:
    return [(charge.run, charge.state) for charge in book_of(project, file).charges]


@pytest.fixture
def tight(project: Any) -> Any:
    """A project of which two runs fit into the limit, with public keys."""
    project.config["budget"] = {"epsilon": 1, "delta": 1e-6}
    project.config["ledger"]["limit"] = {"epsilon": 1.6, "delta": 2e-6}
    project.release["keys"]["values"] = {"shop": ["ash", "birch", "cedar"]}
    return project


# What is refused, and what is free


def test_r5_the_budget_refuses_before_any_data_file_is_opened(tight, monkeypatch):
    """Status 3 with what is spent, needed and would fit; neither footers nor rows are read, and nothing is left."""
    opened: list[str] = []
    file = pq.ParquetFile

    def counting(path: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(str(path))
        return file(path, *arguments, **options)

    monkeypatch.setattr(pq, "ParquetFile", counting)
    assert [tight.run(run_id=name).status for name in ("one", "two")] == [0, 0]
    assert [path for path in opened if "events" in path]
    opened.clear()
    before = (tight.root / DEFAULT).read_bytes()
    (tight.root / "events/b.parquet").write_bytes(b"no Parquet: who opens it says so")
    ended = tight.run(run_id="three")
    assert (ended.status, ended.out, [path for path in opened if "events" in path]) == (3, "", [])
    for part in (
        "dataset shops has spent",
        "of its limit (epsilon 1.6, delta 2e-06)",
        "run three needs",
        "would fit",
        "ledger limit",
    ):
        assert part in ended.complaint
    assert len(ended.complaint.splitlines()) == 1
    assert ((tight.root / DEFAULT).read_bytes(), tight.leftovers()) == (before, [])
    assert not (tight.root / "out/by_shop/run=three").exists()


def test_what_would_fit_fits(tight):
    """The epsilon that the refusal names, and the number of runs that the outcome names."""
    left = [tight.run(run_id=name).json["ledger"] for name in ("one", "two")]
    assert [outcome["runs_left"] for outcome in left] == [1, 0]
    assert 1 > left[0]["part_left"] > left[1]["part_left"] > 0
    complaint = tight.run(run_id="three").complaint
    tight.config["budget"]["epsilon"] = float(complaint.split("an epsilon of ")[1].split()[0])
    assert tight.run(run_id="three").status == 0
    assert tight.run(run_id="four").status == 3


def test_another_run_id_costs_and_the_same_does_not(tight):
    """R7, by the ledger."""
    tight.run()
    first = book_of(tight)
    for _ in range(2):
        assert tight.run().json["drawn"] is False
    assert book_of(tight) == first
    tight.run(run_id="two")
    assert states(tight) == [("one", "settled"), ("two", "settled")]
    assert book_of(tight).spent() == [first.spent()[0].times(2)]


def test_b9_late_data_under_another_run_id_costs(tight):
    """A correction of what was published is a run like any other; under the same run id nothing is drawn."""
    tight.run()
    tight.write_events(tight.base.slice(0, 500))
    assert tight.run().json["drawn"] is False
    assert len(states(tight)) == 1
    assert tight.run(run_id="corrected").json["drawn"] is True
    assert len(states(tight)) == 2


def test_b9_late_data_for_a_published_day_costs_on_that_day(tight):
    """Days are charged one by one: a day that has no budget left refuses its late data, the other days go on."""
    tight.config["events"] |= {
        "privacy_unit": ["user", "day"],
        "derive": {"day": {"truncate": "at", "to": "day", "timezone": "UTC"}},
    }
    days = [f"2023-11-{day}" for day in (15, 16)]

    def run(day: str, run_id: str) -> Any:
        tight.config["events"]["window"] = {"column": "day", "from": day, "to": day}
        return tight.run(run_id=run_id)

    assert [run(day, f"{day}{kind}").status for day in days for kind in ("", "-late")] == [0, 0, 0, 0]
    tight.write_events(pa.concat_tables([tight.base, tight.base.slice(0, 30)]))
    assert run(days[0], days[0]).json["drawn"] is False
    assert [run(day, f"{day}-later").status for day in (*days, "2023-11-17")] == [3, 3, 0]
    assert len(states(tight)) == 5


@pytest.mark.parametrize("damage", ["footer", "column", "glob"])
def test_f2_what_fails_before_data_is_read_costs_nothing(tight, damage):
    """A cut-off file, a missing column, a wrong path: no entry, and the same run id is free to start."""
    if damage == "footer":
        (tight.root / "events/b.parquet").write_bytes(b"PAR1")
    elif damage == "column":
        tight.write_events(tight.base.drop_columns(["user"]))
    else:
        tight.config["events"]["files"] = "elsewhere/*.parquet"
    assert tight.run().status == 4
    assert ledger_of(tight).books() == []
    (tight.root / "events/b.parquet").unlink(missing_ok=True)
    tight.write_events()
    tight.config["events"]["files"] = "events/*.parquet"
    assert tight.run().status == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_read_nothing_is_void(tight, monkeypatch, error):
    """It was charged, and gets it back; the run id is free."""

    def fail(*_: object) -> None:
        assert states(tight) == [("one", "reserved")]
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(beam.Pipeline, "run", fail)
        if error is RuntimeError:
            assert tight.run().status == 5
        else:
            with pytest.raises(KeyboardInterrupt):
                tight.run()
    assert states(tight) == [("one", "void")]
    assert book_of(tight).part() == 0
    assert tight.run().status == 0
    assert states(tight) == [("one", "void"), ("one", "settled")]


def test_a_run_that_may_have_read_is_never_void(tight, monkeypatch):
    """It fails while it reads, interrupted or not: the charge stays, and the next start goes on under it."""

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(read_events, "prepare_events", fail)
        assert tight.run().status == 5
    assert states(tight) == [("one", "reserved")]
    charge = book_of(tight).charges[0]
    assert tight.run().status == 0
    assert [(found.digest, found.state) for found in book_of(tight).charges] == [(charge.digest, "settled")]


def die_before_the_record(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has drawn, and dies with nothing recorded."""

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(PrivateFolder, "record", die)
        with pytest.raises(Died):
            project.run()
    assert states(project) == [("one", "reserved")]
    project.assert_nothing_published()


def test_r1_a_run_that_died_goes_on_under_its_own_charge(tight, monkeypatch):
    """Also where no other run fits any more."""
    tight.config["ledger"]["limit"]["epsilon"] = 1.01
    die_before_the_record(tight, monkeypatch)
    assert tight.run(run_id="two").status == 3
    assert tight.run().status == 0
    assert states(tight) == [("one", "settled")]


def test_r7_a_run_that_died_and_whose_files_changed(tight, monkeypatch):
    """Status 2: its charge is for the files that it read."""
    die_before_the_record(tight, monkeypatch)
    tight.write_events(tight.base.slice(0, 500))
    ended = tight.run()
    assert (ended.status, "events.files changed" in ended.complaint) == (2, True)
    assert states(tight) == [("one", "reserved")]


@pytest.mark.parametrize("moment", ["reserved", "published"])
def test_r1_a_run_whose_private_folder_is_gone(tight, monkeypatch, moment):
    """Status 6 once it had drawn, even if all that was published was deleted as well; before, nothing was seen."""
    if moment == "reserved":
        die_before_the_record(tight, monkeypatch)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "settle", lambda *_: (_ for _ in ()).throw(Died))
            with pytest.raises(Died):
                tight.run()
        assert (tight.root / "out/_runs/one.json").exists()
    shutil.rmtree(tight.root / "out")
    shutil.rmtree(tight.root / "out.private")
    ended = tight.run()
    if moment == "reserved":
        assert (ended.status, states(tight)) == (0, [("one", "settled")])
        return
    assert (ended.status, "another --run-id" in ended.complaint) == (6, True), ended.complaint
    assert states(tight) == [("one", "reserved")]
    tight.assert_nothing_published()


def test_r7_files_that_are_gone_are_never_drawn_again(tight):
    """Status 6; another run id costs anew."""
    tight.run()
    shutil.rmtree(tight.root / "out")
    ended = tight.run()
    assert (ended.status, "never drawn again" in ended.complaint) == (6, True)
    assert tight.run(run_id="two").status == 0
    assert len(states(tight)) == 2


def test_r12_another_unit_on_the_same_dataset(tight):
    """Status 3; by column, by rows, by period."""
    tight.run()
    tight.config["events"]["privacy_unit"] = ["user", "shop"]
    assert tight.run(run_id="two").status == 3
    tight.config["events"]["privacy_unit"] = {"rows": 5}
    tight.release.pop("bounds")
    tight.release["metrics"] = [{"name": "visits", "count": "events"}]
    ended = tight.run(run_id="two")
    assert (ended.status, "protects another privacy unit (columns, rows differs)" in ended.complaint) == (3, True)
    tight.config["dataset"] = "rows"
    assert tight.run(run_id="two").status == 0


# R8: the ledger is gone, older, or another one


def test_r8_a_ledger_that_is_gone_is_noticed(tight):
    """By what is published, status 6; restored, the next run works."""
    tight.run()
    file = tight.root / DEFAULT
    file.rename(tight.root / "backup.db")
    ended = tight.run(run_id="two")
    assert (ended.status, "one.json" in ended.complaint) == (6, True)
    assert not (tight.root / "out/by_shop/run=two").exists()
    shutil.copy(tight.root / "backup.db", file)
    assert tight.run(run_id="two").status == 0


def test_r8_a_ledger_that_is_gone_is_not_made_anew(tight):
    """Nor is an empty one left in its place, in which nothing is spent."""
    tight.run()
    (tight.root / DEFAULT).unlink()
    assert tight.run(run_id="two").status in (3, 6)
    assert not (tight.root / DEFAULT).exists()


@pytest.mark.parametrize("declared", ["config", "environment"])
def test_r8_a_declared_ledger_that_is_missing(tight, monkeypatch, declared):
    """Status 3, and none is made; once it was made with `init`, the run works."""
    if declared == "config":
        tight.config["ledger"]["url"] = "sqlite:///books.db"
    else:
        monkeypatch.setenv("DISCREET_LEDGER", "sqlite:///books.db")
    ended = tight.run()
    assert (ended.status, "discreet ledger init" in ended.complaint) == (3, True)
    assert not (tight.root / "books.db").exists()
    assert tight.main("ledger", "init", "--config", "config.yaml").status == 0
    assert tight.run().status == 0
    assert states(tight, "books.db") == [("one", "settled")]
    assert ledger_of(tight).books() == []


def test_the_config_is_before_the_environment(tight, monkeypatch):
    """A ledger that the config declares is the one."""
    monkeypatch.setenv("DISCREET_LEDGER", "sqlite:///other.db")
    tight.config["ledger"]["url"] = f"sqlite:///{DEFAULT}"
    assert tight.run().status == 0
    assert states(tight) == [("one", "settled")]
    assert tight.main("ledger", "show", "--config", "config.yaml").status == 0
    assert tight.main("ledger", "show").status == 3


def test_an_empty_variable(tight, monkeypatch):
    """Is none, for every command."""
    monkeypatch.setenv("DISCREET_LEDGER", "")
    assert tight.run().status == 0
    assert tight.main("ledger", "show", "--config", "config.yaml").status == 0


def test_r9_a_restored_ledger_that_is_older(tight):
    """Status 6 for a run and for `verify`; the newest backup works."""
    file = tight.root / DEFAULT
    tight.run()
    older = file.read_bytes()
    tight.run(run_id="two")
    newest = file.read_bytes()
    file.write_bytes(older)
    for ended in (tight.run(run_id="three"), tight.main("ledger", "verify", "--config", "config.yaml")):
        assert (ended.status, "two.json" in ended.complaint, "one.json" in ended.complaint) == (6, True, False)
    file.write_bytes(newest)
    assert tight.main("ledger", "verify", "--config", "config.yaml").status == 0
    assert tight.run(run_id="three").status == 3


def test_r9_a_ledger_restored_from_between_charge_and_publishing(tight, monkeypatch):
    """What was published since under that charge is not drawn again, wherever its files are."""
    backup: list[bytes] = []
    publish = publish_module.publish

    def backing_up(*arguments: Any) -> None:
        backup.append((tight.root / DEFAULT).read_bytes())
        publish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "publish", backing_up)
        assert tight.run().status == 0
    (tight.root / DEFAULT).write_bytes(backup[0])
    assert states(tight) == [("one", "reserved")]
    assert tight.run().json["drawn"] is False
    shutil.rmtree(tight.root / "out")
    assert tight.run().status == 6
    tight.assert_nothing_published()


def test_r8_a_ledger_that_is_lost_before_the_draw_is_published(tight, monkeypatch):
    """The record is there, its charge is not: status 6, and nothing is published."""

    def die(*_: object) -> None:
        raise Died

    empty = (tight.root / DEFAULT).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "publish", die)
        with pytest.raises(Died):
            tight.run()
    newest = (tight.root / DEFAULT).read_bytes()
    (tight.root / DEFAULT).write_bytes(empty)
    ended = tight.run()
    assert (ended.status, "restore the ledger" in ended.complaint) == (6, True)
    tight.assert_nothing_published()
    (tight.root / DEFAULT).write_bytes(newest)
    assert tight.run().status == 0


def test_r8_the_manifests_of_other_datasets_hide_nothing(tight):
    """20 of another dataset in the same folder, and an older ledger."""
    older = (tight.root / DEFAULT).read_bytes()
    tight.run()
    for number in range(20):
        (tight.root / f"out/_runs/other{number}.json").write_text(json.dumps(tight.manifest() | {"dataset": "others"}))
    (tight.root / DEFAULT).write_bytes(older)
    assert tight.run(run_id="two").status == 6


@pytest.mark.parametrize("content", ["[1]", "5", '{"dataset": "shops", "charge": ["x"]}'])
def test_a_damaged_manifest_of_another_run(tight, content):
    """Is no fault of Discreet's own."""
    tight.run()
    (tight.root / "out/_runs/x.json").write_text(content)
    assert tight.run(run_id="two").status in (0, 5, 6)
    assert tight.main("ledger", "verify", "--config", "config.yaml").status in (0, 5, 6)


# Starters at once, and elsewhere


def test_r7_two_starters_of_a_run_id_at_once(tight):
    """Real processes: one draws, and one charge is there."""
    path = str(tight.write_config())
    started = [tight.start("run", path, "--run-id", "one", "--json") for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in started]
    assert {process.returncode for process in started} <= {0, 5}, outputs
    drawn = [json.loads(out)["drawn"] for out, _ in outputs if out]
    assert drawn.count(True) == 1
    assert states(tight) == [("one", "settled")]


def in_two_places(project: Any) -> list[Path]:
    """Two working folders in which one config, with one ledger and the same files, publishes into `out`."""
    project.config["events"]["files"] = str(project.root / "events/*.parquet")
    project.write_config()
    folders = [project.root / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
    return folders


def test_r1_two_starters_in_two_places_at_once(tight):
    """The same run id, config, files and ledger, but other private folders: at most one draw is ever published."""
    folders = in_two_places(tight)
    command = [str(Path(sys.executable).with_name("discreet")), "run", str(tight.root / "config.yaml"), "--run-id", "one"]
    started = [subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for folder in folders]
    errors = [process.communicate(timeout=120)[1].decode() for process in started]
    assert sorted(process.returncode for process in started) == [0, 6], errors
    assert [(folder / "out/_runs/one.json").exists() for folder in folders].count(True) == 1
    assert [(folder / "out/by_shop").exists() for folder in folders].count(True) == 1
    assert states(tight) == [("one", "settled")]


@pytest.mark.parametrize("moment", ["publish", "settle"])
def test_r1_a_run_that_has_drawn_does_not_go_on_in_another_place(tight, monkeypatch, moment):
    """Nor is its charge voided from there; where it died it goes on."""
    here, there = in_two_places(tight)
    call = ["run", str(tight.root / "config.yaml"), "--run-id", "one", "--direct_num_workers=1"]
    owners = {"publish": publish_module, "settle": Ledger}

    def die(*_: object) -> None:
        raise Died

    monkeypatch.chdir(here)
    with monkeypatch.context() as patch:
        patch.setattr(owners[moment], moment, die)
        with pytest.raises(Died):
            tight.main(*call)
    monkeypatch.chdir(there)
    with monkeypatch.context() as patch:
        patch.setattr(beam.Pipeline, "run", die)
        assert tight.main(*call).status == 6
    assert tight.main(*call).status == 6
    assert not list(there.rglob("*.parquet"))
    assert states(tight) == [("one", "reserved")]
    monkeypatch.chdir(here)
    assert tight.main(*call).status == 0
    assert states(tight) == [("one", "settled")]


def test_r9_a_run_that_died_in_a_folder_that_was_copied(tight, monkeypatch):
    """A snapshot of a machine, started beside it: at most one draw is ever published."""
    here, there = in_two_places(tight)
    call = ["run", str(tight.root / "config.yaml"), "--run-id", "one", "--direct_num_workers=1"]
    monkeypatch.chdir(here)
    with monkeypatch.context() as patch:
        patch.setattr(PrivateFolder, "record", lambda *_: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            tight.main(*call)
    shutil.copytree(here, there, dirs_exist_ok=True)
    publish, other = publish_module.publish, []

    def meanwhile(*arguments: Any) -> None:
        """The other one records, too, before this one has published and settled."""
        if not other:
            other.append(None)
            monkeypatch.chdir(there)
            other.append(tight.main(*call))
            monkeypatch.chdir(here)
        publish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "publish", meanwhile)
        tight.main(*call)
    draws = {path.read_bytes() for folder in (here, there) for path in folder.glob("out/by_shop/run=one/part-00000.parquet")}
    assert len(draws) == 1


# R6: killed at every point

POINTS = [
    "ledger.ledger:Ledger.reserve",
    "transforms.work_folder:WorkFolder.note_reading",
    "transforms.release_keys:stage_schemas",
    "pipelines.private_folder:PrivateFolder.record",
    "pipelines.publish:publish",
    "pipelines.publish:write_release",
    "pipelines.publish:create_if_absent",
    "ledger.ledger:Ledger.settle",
    "pipelines.run:_tidy",
]
KILLER = """
import importlib, json, os, shutil, signal, sys
import opendp.prelude
from pathlib import Path
from ledger import ledger
from ledger.store import open_store
from tests.ledger.asking import call
from pipelines import cli, graph, inputs, publish, report, run
from tests.pipelines.killed_at import run_child

def child(folder, point, when):
    def prepare():
        if ledgers:
            os.environ["DISCREET_LEDGER"] = ledgers[str(folder)]
        if point:
            module, _, path = point.partition(":")
            *owners, name = path.split(".")
            owner = importlib.import_module(module)
            for part in owners:
                owner = getattr(owner, part)
            whole = getattr(owner, name)
            def killed(*arguments, **options):
                if when == "after":
                    whole(*arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            setattr(owner, name, killed)
    return run_child(Path(folder), prepare)

def keep(folder, into):
    if ledgers:
        call(ledgers[folder], "copy", to=f"sqlite:///{into}/.discreet/ledger.db")

ledgers, ended = json.loads(sys.argv[2]), {}
for folder in json.loads(sys.argv[1]):
    point, when, _ = folder.removeprefix("cases/").split("-")
    shutil.copytree("template", folder)
    first = child(folder, point, when)
    shutil.copytree(folder, folder + "-seen")
    keep(folder, folder + "-seen")
    ended[folder] = [first, child(folder, None, None)]
    keep(folder, folder)
print(json.dumps(ended))
"""


CASES = [f"cases/{point}-{when}-{time}" for point in POINTS for when in ("before", "after") for time in range(TIMES)]


@pytest.fixture(params=["sqlite", "postgresql", "cloud"])
def ledgers(request: pytest.FixtureRequest) -> dict[str, str]:
    """An empty ledger for each case, by its folder; none where the one beside the config is meant."""
    if request.param == "sqlite":
        return {}
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        made = {case: server.database(f"killed{number}") for number, case in enumerate(CASES)}
    else:
        bucket = request.getfixturevalue("bucket")
        made = {case: f"gs://{bucket}/{number}/" for number, case in enumerate(CASES)}
    assert all(open_store(url).create() for url in made.values())
    return made


def test_r6_killed_at_every_point(project, ledgers):
    """The ledger never shows less than what is visible; the next start publishes and settles, under the one charge."""
    (project.root / "template/.discreet").mkdir(parents=True)
    project.write_config().rename(project.root / "template/config.yaml")
    (project.root / "events").rename(project.root / "template/events")
    if not ledgers:
        (project.root / DEFAULT).rename(project.root / "template" / DEFAULT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    script = [sys.executable, "-c", KILLER, json.dumps(CASES), json.dumps(ledgers)]
    done = subprocess.run(script, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ended: dict[str, list[int]] = json.loads(done.stdout)
    assert list(ended) == CASES
    met = set()
    for case, statuses in ended.items():
        assert statuses == [-signal.SIGKILL, 0], (case, (project.root / case / "log.txt").read_text()[-500:])
        seen, again = project.root / f"{case}-seen", project.root / case
        before, after = (ledger_of(project, f"{folder}/{DEFAULT}").book("shops") for folder in (seen, again))
        visible = any(path.suffix in (".parquet", ".json") for path in (seen / "out").rglob("*") if path.is_file())
        met.add((visible, before.charges[0].state if before else None))
        assert before is not None or not visible, case
        assert after is not None
        assert [(charge.run, charge.state) for charge in after.charges] == [("one", "settled")], case
        assert after.last.number == 4, case
        assert before is None or before.charges[0].digest == after.charges[0].digest, case
        assert json.loads((again / "out/_runs/one.json").read_text())["charge"] == after.charges[0].digest
        for path in (seen / "out").glob("by_shop/run=one/*.parquet"):
            assert path.read_bytes() == (again / path.relative_to(seen)).read_bytes(), case
        assert not (again / "out.private").exists(), case
    assert met == {(False, None), (False, "reserved"), (True, "reserved"), (True, "settled")}


def test_f4_the_ledger_fails_when_a_run_is_to_be_settled(tight, monkeypatch):
    """Status 5, though it is published; its charge counts, and the next start settles it."""
    settle = Ledger.settle

    def fail(self: Ledger, *arguments: str) -> None:
        (tight.root / DEFAULT).rename(tight.root / "away.db")
        (tight.root / DEFAULT).write_bytes(b"")
        settle(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "settle", fail)
        assert tight.run().status == 5
    (tight.root / "away.db").replace(tight.root / DEFAULT)
    assert (tight.root / "out/_runs/one.json").exists()
    assert states(tight) == [("one", "reserved")]
    ended = tight.run()
    assert (ended.status, ended.json["drawn"]) == (0, False)
    assert states(tight) == [("one", "settled")]


def test_a_run_on_a_ledger_on_cloud_storage(tight, bucket):
    """Declared and missing, it is refused; made, it is charged once, however often the run starts."""
    tight.config["ledger"]["url"] = f"gs://{bucket}/ledger/"
    tight.write_config()
    ended = tight.process("run", "config.yaml", "--run-id", "one")
    assert (ended.status, "there is none" in ended.err) == (3, True)
    assert tight.process("ledger", "init", "--config", "config.yaml").status == 0
    for drawn in (True, False):
        ended = tight.process("run", "config.yaml", "--run-id", "one", "--json")
        assert (ended.status, ended.json["drawn"]) == (0, drawn), ended.err
    assert tight.process("run", "config.yaml", "--run-id", "two").status == 0
    assert tight.process("run", "config.yaml", "--run-id", "three").status == 3
    said = tight.process("ledger", "show", "--config", "config.yaml").out
    assert f"Ledger gs://{bucket}/ledger/" in said
    assert "2 runs published" in said
    assert tight.process("ledger", "verify", "--config", "config.yaml").status == 0


# Commands


def test_plan_runs_is_what_the_ledger_admits(tight):
    """So many runs of the config succeed, and so many with the epsilon that it names; it reads no data and makes no ledger."""
    (tight.root / "events/a.parquet").rename(tight.root / "a.parquet")
    path = str(tight.write_config())
    series = json.loads(tight.main("plan", path, "--runs", "5", "--json").out)["series"]
    assert (series["limit"], series["fitting"], series["runs"]) == ({"epsilon": 1.6, "delta": 2e-6}, 2, 5)
    said = tight.main("plan", path, "--runs", "5").out
    assert "2 more runs of this config fit" in said
    assert f"5 more runs fit with epsilon {series['epsilon']:g} each" in said
    (tight.root / "a.parquet").rename(tight.root / "events/a.parquet")
    tight.config["budget"]["epsilon"] = series["epsilon"]
    assert [tight.run(run_id=str(number)).status for number in range(6)] == [0, 0, 0, 0, 0, 3]
    spent = json.loads(tight.main("plan", path, "--runs", "5", "--json").out)["series"]
    assert (spent["fitting"], spent["epsilon"]) == (0, None) or spent["epsilon"] < 0.1
    assert tight.main("plan", path, "--runs", "0").status == 2
    assert tight.main("plan", path, path, "--runs", "2").status == 2


def test_plan_runs_without_a_ledger(tight):
    """Of the whole limit, and none is made."""
    shutil.rmtree(tight.root / ".discreet")
    assert json.loads(tight.main("plan", str(tight.write_config()), "--runs", "2", "--json").out)["series"]["fitting"] == 2
    assert not (tight.root / ".discreet").exists()


def test_an_epsilon_that_is_said_to_fit_fits(tight):
    """In the refusal and in `plan --runs`, for 20 limits."""
    config = parse_config(tight.write_config().read_text())
    wrong = {}
    for number in range(15, 35):
        limit = Limit(epsilon=0.3 + 0.037 * number, delta=1e-4)
        epsilon = fitting_epsilon(config, limit.admits, 10.0)
        assert epsilon is not None
        if not limit.admits(cost(make_plan(Budget(epsilon=epsilon, delta=1e-6), config.releases))):
            wrong[limit] = epsilon
    assert not wrong


def test_ledger_show(tight):
    """What is spent, of what, by whom; in words and as JSON."""
    assert "Nothing was charged yet" in tight.main("ledger", "show").out
    tight.run()
    tight.run(run_id="two")
    said, found = tight.main("ledger", "show"), json.loads(tight.main("ledger", "show", "--json").out)
    (book,) = found["datasets"]
    assert (book["dataset"], book["limit"], book["runs"]) == (
        "shops",
        {"epsilon": 1.6, "delta": 2e-6},
        {"settled": 2, "reserved": 0, "void": 0},
    )
    assert 0.8 < book["spent"] <= 1
    assert 1 < book["guarantee"]["epsilon"] < 1.6
    for part in (f"{book['spent']:.1%} of the limit is spent", "protects each user", "2 runs published", "two", "epsilon 1.6"):
        assert part in said.out
    assert tight.main("ledger", "show", "--dataset", "shop").status == 2


def test_ledger_runs_and_export(tight):
    """Every charge; the same in a Parquet file."""
    tight.run()
    tight.run(run_id="two")
    said, found = tight.main("ledger", "runs"), json.loads(tight.main("ledger", "runs", "--json").out)["runs"]
    assert [(run["run"], run["state"]) for run in found] == [("one", "settled"), ("two", "settled")]
    assert [run["digest"] for run in found] == [tight.manifest(name)["charge"] for name in ("one", "two")]
    assert "all time" in said.out
    ended = tight.main("ledger", "export", "charges.parquet", "--json")
    assert (ended.status, ended.json) == (0, {"file": "charges.parquet", "rows": 2})
    assert pq.read_table(tight.root / "charges.parquet").to_pylist() == found
    assert tight.main("ledger", "export", "charges.parquet").status == 2
    assert "Wrote 2 charges" in tight.main("ledger", "export", "more.parquet").out


def test_ledger_verify(tight):
    """Entries and manifests; an edited entry is status 6."""
    tight.run()
    ended = tight.main("ledger", "verify", "--json")
    assert (ended.status, ended.json["entries"], ended.json["manifests"], ended.json["faults"]) == (0, 4, 1, [])
    assert "4 entries hold together" in tight.main("ledger", "verify").out
    manifest = tight.root / "out/_runs/one.json"
    manifest.write_text(json.dumps(tight.manifest() | {"charge": "0" * 64}))
    ended = tight.main("ledger", "verify")
    assert (ended.status, ended.out, "one.json" in ended.complaint) == (6, "", True)


def test_ledger_limit(tight):
    """Raised for a reason, by which a run fits again once the config says so, too; what is no limit is refused."""
    for name in ("one", "two", "three"):
        ended = tight.run(run_id=name)
    assert ended.status == 3
    call = ["ledger", "limit", "--dataset", "shops", "--epsilon", "3", "--delta", "3e-6"]
    assert tight.main(*call).status == 2
    assert tight.main(*call, "--reason", " ").status == 2
    assert json.loads(tight.main(*call, "--reason", "we asked", "--json").out)["limit"] == {"epsilon": 3, "delta": 3e-6}
    assert "epsilon 3, delta 3e-06" in tight.main(*call, "--reason", "we asked").out
    ended = tight.run(run_id="three")
    assert (ended.status, "ledger.limit" in ended.complaint) == (2, True)
    tight.config["ledger"]["limit"] = {"epsilon": 3, "delta": 3e-6}
    assert tight.run(run_id="three").status == 0
    assert [limit.get("reason") for limit in book_of(tight).limits] == [None, "we asked", "we asked"]
    for epsilon, delta in (("0", "1e-6"), ("-1", "1e-6"), ("nan", "1e-6"), ("inf", "1e-6"), ("1", "0"), ("1", "1"), ("1", "nan")):
        wrong = ["ledger", "limit", "--dataset", "shops", f"--epsilon={epsilon}", f"--delta={delta}", "--reason", "x"]
        assert tight.main(*wrong).status == 2
    assert len(book_of(tight).limits) == 3


def test_ledger_init_and_copy(tight):
    """Into a new one, by which the project goes on."""
    tight.run()
    assert tight.main("ledger", "init", "--config", "config.yaml").status == 2
    ended = tight.main("ledger", "copy", "sqlite:///moved.db", "--json")
    assert (ended.status, ended.json) == (0, {"entries": 4, "to": "sqlite:///moved.db"})
    assert tight.main("ledger", "copy", "sqlite:///moved.db").status == 2
    assert "Copied 4 entries" in tight.main("ledger", "copy", "sqlite:///again.db").out
    assert "Made the ledger" in tight.main("ledger", "init", "--ledger", "sqlite:///new.db").out
    tight.config["ledger"]["url"] = "sqlite:///moved.db"
    assert tight.run(run_id="two").status == 0
    assert tight.main("ledger", "verify", "--config", "config.yaml").status == 0
    assert states(tight, "moved.db") == [("one", "settled"), ("two", "settled")]


def test_ledger_commands_of_a_config_with_a_variable(tight):
    """`init` must not make a ledger that is called ${place}."""
    tight.config["ledger"]["url"] = "sqlite:///${place}.db"
    tight.write_config()
    tight.main("ledger", "init", "--config", "config.yaml")
    assert not list(tight.root.glob("$*"))


# What is published


def test_r13_nothing_published_follows_from_the_events(tight):
    """The charge's digest covers a nonce of 32 bytes that, like the files' fingerprint, is nowhere but in the ledger."""
    (tight.root / "deep/hidden").mkdir(parents=True)
    (tight.root / "events/a.parquet").rename(tight.root / "deep/hidden/canary.parquet")
    tight.config["events"]["files"] = "deep/*/*.parquet"
    tight.config["ledger"]["url"] = "sqlite:///vault/keep.db"
    tight.write_config()
    assert tight.main("ledger", "init", "--config", "config.yaml").status == 0
    assert tight.run().status == 0
    entries, _ = open_store(f"sqlite:///{tight.root}/vault/keep.db").entries("shops")
    charge = next(entry for entry in entries if entry.kind == "charge")
    assert tight.manifest()["charge"] == charge.digest
    secrets = [str(charge.content[name]) for name in ("nonce", "inputs")]
    assert all(len(secret) >= 64 for secret in secrets)
    published = b"".join(tight.visible().values()).decode("latin-1")
    for secret in [*secrets, "hidden", "canary", "vault", "keep.db", str(tight.root)]:
        assert secret not in published, secret
    without = charge.body.replace(charge.content["nonce"], "")
    assert without != charge.body
    parts = [charge.dataset, str(charge.number), charge.kind, charge.before]
    assert hashlib.sha256("\n".join([*parts, charge.body]).encode()).hexdigest() == charge.digest
    assert hashlib.sha256("\n".join([*parts, without]).encode()).hexdigest() != charge.digest


def test_r13_two_equal_projects_publish_different_digests(tight):
    """So nobody can tell from them whether two inputs are the same."""
    digests = []
    for name in ("one", "two"):
        tight.run(run_id=name)
        digests.append((tight.manifest(name)["charge"], tight.manifest(name)["config_digest"]))
    assert digests[0][0] != digests[1][0]
    assert digests[0][1] == digests[1][1]


def test_the_ledger_is_for_its_owner_only(project):
    """The one that a run makes: 0600 in 0700, with a notice; and what it made, the next run finds."""
    shutil.rmtree(project.root / ".discreet")
    ended = project.run()
    assert (ended.status, "Made the ledger" in ended.err) == (0, True)
    assert [(project.root / name).stat().st_mode & 0o777 for name in (".discreet", DEFAULT)] == [0o700, 0o600]
    assert "Made the ledger" not in project.run(run_id="two").err
    assert [path.name for path in (project.root / ".discreet").iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("folder", ["what?", "100%41"])
def test_a_config_in_an_oddly_named_folder(tight, folder):
    """The ledger is beside the config, not where its path reads as a URL."""
    (tight.root / folder).mkdir()
    path = tight.write_config().rename(tight.root / folder / "config.yaml")
    assert tight.main("run", str(path), "--run-id", "one").status == 0
    assert (tight.root / folder / DEFAULT).is_file()


def test_r12_a_unit_from_another_lookup(tight):
    """Households by one table, and by another: two runs that protect different people."""
    tight.config["events"] |= {"privacy_unit": "household"}
    units = []
    for name in ("a", "b"):
        pq.write_table(pa.table({"user": [1], "household": [name]}), f"{name}.parquet")
        tight.config["events"]["lookups"] = [{"file": f"{name}.parquet", "by": "user", "columns": ["household"]}]
        units.append(unit_of(parse_config(tight.write_config().read_text())))
    assert units[0] != units[1]
