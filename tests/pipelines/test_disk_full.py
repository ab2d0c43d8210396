"""F4: the disk is full, at the output or at the private folder: exit 5, nothing half-published, and a rerun works."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

KEYS = 3000


@pytest.fixture
def small_disk(project) -> Iterator[Callable[[str], Path]]:
    """Makes a disk of a size, or changes its size. Skips where that is not permitted."""
    place = project.root / "disk"

    def make(size: str) -> Path:
        mounted = place.is_mount()
        place.mkdir(exist_ok=True)
        options = f"remount,size={size}" if mounted else f"size={size}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("not permitted to mount a file system: the disk-full tests did not run")
        return place

    yield make
    subprocess.run(["umount", place], capture_output=True, check=False)


@pytest.fixture
def wide(project) -> Any:
    """3,000 public keys, 12,000 events: about half a megabyte of batches, and as much of releases."""
    names = [f"key-{number:05d}" for number in range(KEYS)]
    rows = range(4 * KEYS)
    columns = {
        "user": [row % 997 for row in rows],
        "shop": [names[row % KEYS] for row in rows],
        "price": [row % 7 / 3 for row in rows],
        "quantity": pa.array([row % 5 for row in rows], pa.int32()),
    }
    project.write_events(pa.table(columns))
    project.release["keys"]["values"] = {"shop": names}
    project.release["bounds"]["keys_per_unit"] = 20
    return project


def assert_no_space(project: Any, ended: Any, output: str) -> None:
    """Exit 5, one clear sentence, and no run to see."""
    assert (ended.status, ended.out) == (5, ""), ended.complaint
    assert len(ended.complaint.splitlines()) == 1, ended.complaint
    assert "No space left" in ended.complaint
    assert not [name for name in project.names(output) if name.startswith("_runs/one")]


@pytest.mark.parametrize("size", ["0k", "8k", "40k", "200k"])
def test_f4_output_is_full(wide, small_disk, size):
    """The draw is recorded: after making room the same draw is published, and no temporary file stays."""
    small_disk("1m" if size == "0k" else size)
    if size == "0k":  # a size of 0 is no limit; the disk is full to the last page instead
        with pytest.raises(OSError, match="No space left"):
            (wide.root / "disk/full").write_bytes(bytes(2 << 20))
    wide.config["output"] |= {"path": "disk/out", "private": "private"}
    assert_no_space(wide, wide.run(), "disk/out")
    staged = {path.name: path.read_bytes() for path in (wide.root / "private").rglob("staged/*.arrow")}
    assert staged or size == "0k"
    small_disk("50m")
    ended = wide.run()
    assert ended.status == 0, ended.complaint
    assert wide.table(output="disk/out").num_rows == KEYS
    assert not [name for name in wide.names("disk/out") if "/." in f"/{name}"]
    assert not (wide.root / "private").exists()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", ["4k", "300k", "900k"])
def test_f4_private_is_full(wide, small_disk, size, workers):
    """While batches are written, or releases are staged: nothing is published, with threads as workers or without."""
    small_disk(size)
    wide.config["output"]["private"] = "disk/private"
    ended = wide.main("run", str(wide.write_config()), "--run-id", "one", "--json", f"--direct_num_workers={workers}")
    assert_no_space(wide, ended, "out")
    wide.assert_nothing_published()
    small_disk("50m")
    assert wide.run().status == 0
    assert wide.table().num_rows == KEYS
    assert wide.names("disk") == []


def test_f4_readonly_disk(wide, small_disk):
    """A disk that takes no files at all: exit 5 and the path."""
    place = small_disk("1m")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    wide.config["output"]["private"] = "disk/private"
    ended = wide.run()
    assert (ended.status, ended.out) == (5, "")
    assert "Read-only file system" in ended.complaint
    assert "disk" in ended.complaint
    wide.assert_nothing_published()
