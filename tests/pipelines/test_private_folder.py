"""The private folder: for the owner only, apart from what is published, gone afterwards, and no danger to other files."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.private_folder import PrivateFolder
from transforms import release_keys


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int]]:
    """Every path of the private folder with its mode, at the moment the noise is drawn."""
    found: list[tuple[Path, int]] = []
    stage = release_keys.release_keys

    def looking(*arguments: Any) -> Any:
        root = Path("out.private")
        found.extend((path, path.stat().st_mode & 0o777) for path in [root, *root.rglob("*")])
        return stage(*arguments)

    monkeypatch.setattr(release_keys, "release_keys", looking)
    return found


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_mode_is_0700_while_running(project, seen, umask):
    """Whatever the umask."""
    before = os.umask(umask)
    try:
        assert project.run().status == 0
    finally:
        os.umask(before)
    folders = {path: mode for path, mode in seen if path.suffix != ".lock" and (path.name in ("out.private", "one"))}
    assert folders == {Path("out.private"): 0o700, Path("out.private/one"): 0o700}
    assert len(seen) > 5


def test_mode_where_the_folder_was_there(project, seen):
    """A folder that somebody made readable does not open what a run puts into it."""
    (project.root / "out.private").mkdir(mode=0o755)
    assert project.run().status == 0
    assert dict(seen)[Path("out.private/one")] == 0o700


def test_gone_afterwards(project):
    """Also after a second run, and after one that was published before."""
    for run_id in ("one", "two", "one"):
        assert project.run(run_id=run_id).status == 0
        assert project.leftovers() == []


@pytest.mark.parametrize(
    ("output", "private"),
    [
        ("out", "out/private"),
        ("out", "out"),
        ("out", "./x/../out/deep/er"),
        ("out/", "out/by_shop"),
        (".", "private"),
        ("out", "link/private"),
    ],
)
def test_private_inside_the_output_is_refused(project, output, private):
    """What is published is copied, listed, backed up."""
    (project.root / "out").mkdir()
    (project.root / "link").symlink_to("out")
    project.config["output"] |= {"path": output, "private": private}
    ended = project.run()
    assert ended.status == 2
    assert "output.private" in ended.complaint
    assert project.names() == []


@pytest.mark.parametrize(("output", "private"), [("work/out", "work"), ("work/one", "work"), ("work/a/out", "./work")])
def test_output_inside_the_private_folder_is_refused(project, output, private):
    """Readers could not enter it, and cleaning up might remove it."""
    project.config["output"] |= {"path": output, "private": private}
    ended = project.run()
    assert ended.status == 2
    assert "output.private" in ended.complaint


@pytest.mark.parametrize("run_id", ["other", "events", "data"])
def test_a_folder_of_somebody_else_is_not_removed(project, run_id):
    """`output.private` names a folder in use, like the project's own: nothing in it that Discreet did not make is touched."""
    for name in ("data/2024", "home/deep", "data.lock"):
        (project.root / "shared" / name).mkdir(parents=True)
        (project.root / "shared" / name / "thesis.txt").write_text("the only copy")
    (project.root / "events").rename(project.root / "shared/events")
    project.config["events"]["files"] = "shared/events/*.parquet"
    project.config["output"]["private"] = "shared"
    before = project.visible("shared")
    project.run(run_id=run_id)
    after = project.visible("shared")
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("name", ["0123456789abcdef0123456789abcdef/batch", "my-commit.json", "commit.json.d/x"])
def test_a_folder_that_looks_like_a_runs_is_not_removed(project, name):
    """Caches name folders by digests as well: what is removed must be sure to be ours."""
    path = project.root / "shared/cache" / name
    path.parent.mkdir(parents=True)
    path.write_text("the only copy")
    project.config["output"]["private"] = "shared"
    for run_id in ("other", "cache"):
        project.run(run_id=run_id)
        assert path.exists(), run_id


def test_private_folder_at_a_link(project):
    """A symbolic link to a bigger disk is followed."""
    (project.root / "disk").mkdir()
    (project.root / "out.private").symlink_to("disk")
    assert project.run().status == 0
    assert project.names("disk") == []
    assert project.run(run_id="two").status == 0


def test_one_run_id_is_the_lock_of_another(project):
    """`one` and `one.lock` are both run ids by the rule."""
    lock = PrivateFolder(project.root / "out.private", "one")
    with lock.locked():
        assert project.run(run_id="one.lock").status == 0
    with PrivateFolder(project.root / "out.private", "one.lock").locked():
        lock_folder = project.root / "out.private/one.lock"
        if not lock_folder.exists():
            lock_folder.mkdir()
        assert project.run(run_id="one").status == 0


def test_what_a_dead_run_left_goes_with_the_next_run(project):
    """Ids and values of a killed run, under another run id: removed, as it has no record."""
    dead = project.root / "out.private/dead/0123456789abcdef0123456789abcdef/batches"
    dead.mkdir(parents=True)
    (dead / "abc").write_bytes(b"ids and values")
    (project.root / "out.private/dead/.discreet-run").touch()
    (project.root / "out.private/.dead.lock").touch()
    assert project.run().status == 0
    assert project.leftovers() == []


def test_what_a_dead_run_left_goes_with_its_next_start(project, monkeypatch):
    """Killed between the manifest and the clean-up: the next start finds it published, and cleans up."""

    class Died(BaseException):
        """The process is gone."""

    def die(_: PrivateFolder) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(PrivateFolder, "remove", die)
        with pytest.raises(Died):
            project.run()
    assert project.leftovers()
    ended = project.run()
    assert (ended.status, ended.json["drawn"]) == (0, False)
    assert project.leftovers() == []


def test_a_failed_run_leaves_nothing_after_the_next(project):
    """Exit 4 after batches were written, corrected, run again."""
    path = project.root / "events/b.parquet"
    path.write_bytes((project.root / "events/a.parquet").read_bytes())
    data = bytearray(path.read_bytes())
    data[20:300] = bytes(280)
    path.write_bytes(data)
    assert project.run().status == 4
    path.unlink()
    assert project.run(run_id="two").status == 0
    assert project.leftovers() == []


def test_private_folder_that_cannot_be_made(project):
    """A file is in its place: exit 5, or 2, with the path."""
    (project.root / "out.private").write_text("")
    ended = project.run()
    assert ended.status in (2, 5)
    assert "out.private" in ended.complaint


def test_output_that_cannot_be_made(project):
    """The same for the output; with room made, the run goes on."""
    (project.root / "published").write_text("")
    ended = project.run("--output", "published")
    assert ended.status in (2, 5)
    assert "published" in ended.complaint
    (project.root / "published").unlink()
    assert project.run("--output", "published").status == 0
