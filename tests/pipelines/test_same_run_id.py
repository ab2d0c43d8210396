"""The same run id again (R7): published, with another config, at the same time, without its record."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from pipelines import publish as publish_module


def test_r7_published_again_is_free(project):
    """Exit 0, nothing drawn, not a byte changed, also when the events changed or are gone."""
    first = project.run()
    before = project.visible()
    again = project.run()
    assert again.json | {"ledger": first.json["ledger"]} == first.json | {"drawn": False}
    project.write_events(project.base.slice(0, 10))
    assert project.run().json["drawn"] is False
    shutil.rmtree(project.root / "events")
    ended = project.run()
    assert (ended.status, ended.json["drawn"]) == (0, False)
    assert project.visible() == before
    assert project.leftovers() == []


def test_r7_published_again_says_so(project):
    """In words as well."""
    project.run()
    ended = project.main("run", "config.yaml", "--run-id", "one")
    assert "Already published, nothing drawn" in ended.out


def test_another_config_is_refused_and_told(project):
    """Exit 2, naming what changed, and nothing changes."""
    project.run()
    before = project.visible()
    project.config["budget"]["epsilon"] = 51
    project.release["metrics"][2]["clip"] = [0, 11]
    project.release["bounds"]["rows_per_key"] = 5
    ended = project.run()
    assert (ended.status, ended.out) == (2, "")
    for place in ("budget.epsilon", "releases[0].metrics[2].clip[1]", "releases[0].bounds.rows_per_key", "--run-id"):
        assert place in ended.complaint
    assert "metrics[1]" not in ended.complaint
    assert project.visible() == before


@pytest.mark.parametrize("change", ["metric", "condition", "release", "output.files"])
def test_another_config_in_its_lists_is_refused_and_told(project, change):
    """Something more, something less, something else."""
    project.run()
    if change == "metric":
        project.release["metrics"].pop()
    elif change == "condition":
        project.config["events"]["where"] = [{"column": "shop", "op": "not_null"}]
    elif change == "release":
        project.config["releases"].append(project.release | {"name": "other"})
    else:
        project.config["output"]["files"] = 3
    ended = project.run()
    assert ended.status == 2
    place = {"metric": "metrics", "condition": "events.where", "release": "releases"}.get(change, change)
    assert place in ended.complaint


def test_another_run_id_is_another_draw(project):
    """And leaves the first alone."""
    project.run()
    before = project.visible()
    assert project.run(run_id="two").json["drawn"] is True
    after = project.visible()
    assert {name: after[name] for name in before} == before
    assert project.table()["takings"].to_pylist() != project.table(run_id="two")["takings"].to_pylist()


def test_a_release_without_its_record_is_refused(project):
    """Files of a draw whose private record is gone: drawing again would show a second draw (R1)."""
    project.run()
    (project.root / "out/_runs/one.json").unlink()
    before = project.visible()
    ended = project.run()
    assert ended.status == 2
    assert "out/by_shop/run=one" in ended.complaint
    assert "--run-id" in ended.complaint
    assert project.visible() == before


def test_a_partial_release_without_its_record_is_refused(project):
    """Also a temporary folder of a publisher that died may have been read."""
    part = project.root / "out/_runs/.one.part/by_shop"
    part.mkdir(parents=True)
    (part / "part-00000.parquet").write_bytes(b"PAR1")
    ended = project.run()
    assert ended.status == 2
    assert "one" in ended.complaint


def test_files_that_are_gone_are_told(project):
    """A published run whose files someone deleted is not drawn again."""
    project.run()
    project.parts()[0].unlink()
    ended = project.run()
    assert ended.status == 5
    assert "by_shop" in ended.complaint
    assert "never drawn again" in ended.complaint


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run": "one"}', b"\xff"])
def test_a_damaged_manifest_is_told(project, content):
    """Not taken for a missing one, and no fault of our own."""
    project.run()
    (project.root / "out/_runs/one.json").write_bytes(content)
    before = project.visible()
    ended = project.run()
    assert ended.status == 5, ended.complaint
    assert "one.json" in ended.complaint
    assert project.visible() == before


def crash_before_publishing(project, monkeypatch) -> None:
    """A run that dies with its record written and nothing published."""

    class Died(BaseException):
        """The process is gone."""

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "publish", die)
        with pytest.raises(Died):
            project.run()
    assert (project.root / "out.private/one/commit.json").exists()
    project.assert_nothing_published()


def test_a_recorded_draw_of_another_config_is_refused(project, monkeypatch):
    """Its values were drawn for other bounds."""
    crash_before_publishing(project, monkeypatch)
    project.config["budget"]["epsilon"] = 51
    ended = project.run()
    assert ended.status == 2
    assert "another config" in ended.complaint
    project.config["budget"]["epsilon"] = 50
    assert project.run().status == 0


def test_a_recorded_draw_is_published_without_its_events(project, monkeypatch):
    """The files may be rotated away by then: a later process publishes exactly what the record names."""
    crash_before_publishing(project, monkeypatch)
    shutil.rmtree(project.root / "events")
    ended = project.run()
    assert ended.status == 0, ended.complaint
    assert project.table()["shop"].to_pylist() == ["ash", "birch", "cedar"]


@pytest.mark.parametrize("damage", ["record", "empty record", "staged", "staged gone"])
def test_a_damaged_record_is_not_drawn_again(project, monkeypatch, damage):
    """Exit 5 and the reason."""
    crash_before_publishing(project, monkeypatch)
    private = project.root / "out.private/one"
    staged = next(private.glob("*/staged/*.arrow"))
    if damage == "staged":
        staged.write_bytes(staged.read_bytes()[:-1] + b"x")
    elif damage == "staged gone":
        staged.unlink()
    else:
        (private / "commit.json").write_bytes(b"" if damage == "empty record" else b'{"a": 1}')
    ended = project.run()
    assert ended.status == 5
    assert "out.private/one" in ended.complaint
    project.assert_nothing_published()


def test_a_held_lock_is_5(project):
    """Another process is at work; afterwards the run goes on."""
    private = project.root / "out.private"
    private.mkdir(mode=0o700)
    with open(private / ".one.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = project.run()
        assert (ended.status, ended.out) == (5, "")
        assert "one" in ended.complaint
        assert "another process" in ended.complaint
        assert project.run(run_id="two").status == 0
    assert not (project.root / "out/_runs/one.json").exists()
    assert project.run().status == 0


def test_a_lock_that_a_dead_process_left(project):
    """A file is not a lock."""
    private = project.root / "out.private"
    private.mkdir(mode=0o700)
    (private / ".one.lock").touch()
    assert project.run().status == 0


def test_r7_two_starters_at_once(project):
    """Real processes: exactly one draws; the other exits 5 or finds it published."""
    path = str(project.write_config())
    for round_ in range(2):
        started = [project.start("run", path, "--run-id", f"r{round_}", "--json") for _ in range(3)]
        outputs = [process.communicate(timeout=120)[0] for process in started]
        statuses = [process.returncode for process in started]
        assert set(statuses) <= {0, 5}
        drawn = [json.loads(out)["drawn"] for out, status in zip(outputs, statuses, strict=True) if status == 0]
        assert drawn.count(True) == 1
        assert len(project.parts(run_id=f"r{round_}")) == 2
    assert project.leftovers() == []


def test_runs_that_share_a_private_folder(project):
    """Two run ids at once, in one private folder: both publish, whoever ends first."""
    path = str(project.write_config())
    started = [project.start("run", path, "--run-id", name, "--json") for name in ("a", "b", "c")]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], [err[-300:] for _, err in ended]
    assert sorted(Path(project.root, "out/_runs").iterdir()) == [project.root / f"out/_runs/{name}.json" for name in "abc"]
