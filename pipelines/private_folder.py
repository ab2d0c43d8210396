"""The private folder of a run id: its lock, the attempts' work, and the record of which draw is published."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transforms.errors import RunnerError
from transforms.work_folder import WorkFolder, create_if_absent


@dataclass(frozen=True)
class Commit:
    """Which staged files are published. Once it exists, this run id never draws again.

    Attributes:
        attempt: name of the attempt's folder.
        config: digest of the config.
        files: SHA-256 of each staged file.
    """

    attempt: str
    config: str
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of the record, in hexadecimal: tells the draw from any other."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PrivateFolder:
    """Paths of one run id below `output.private`."""

    root: Path
    run: str

    @property
    def path(self) -> Path:
        return self.root / self.run

    @property
    def _commit(self) -> Path:
        return self.path / "commit.json"

    @property
    def quarantine(self) -> Path:
        """Where the lines that could not be read are kept. No run id starts with _."""
        return self.root / "_quarantine" / self.run

    @property
    def _mark(self) -> Path:
        return self.path / ".discreet-run"

    @property
    def _lock(self) -> Path:
        return self.root / f".{self.run}.lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run id. The operating system lets go of it when this process ends, however it ends.

        Raises:
            RunnerError: another process holds it.
        """
        handle = self._take_lock()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a lock file that stays holds nothing
                self._lock.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.close(handle)
            with contextlib.suppress(OSError):  # other runs are in it
                self.root.rmdir()

    def _take_lock(self) -> int:
        while True:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                handle = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o600)
            except FileNotFoundError:
                continue  # the last run in the folder removed it between the two calls
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise RunnerError(
                    f"run {self.run}: another process is at work on it; wait for it, or choose another --run-id"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(self._lock)):
                    return handle
            os.close(handle)  # its holder removed the file between the two calls

    def exists(self) -> bool:
        """Whether anything of this run id is left."""
        return self.path.exists() or self._lock.exists()

    def commit(self) -> Commit | None:
        """The record, if the run got that far.

        Raises:
            RunnerError: it is there but damaged.
        """
        try:
            return Commit(**json.loads(self._commit.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise RunnerError(f"{self._commit}: is damaged; restore it, or choose another --run-id") from None

    def new_attempt(self) -> WorkFolder:
        """Removes what earlier attempts without a record left, and makes room for a new one.

        Raises:
            RunnerError: something else lies there.
        """
        if self.path.is_dir() and not self._is_ours() and any(self.path.iterdir()):
            raise RunnerError(f"{self.path}: is no folder of a run; name another folder in output.private")
        self._clear()
        self.path.mkdir(mode=0o700)
        self._mark.touch()
        folder = WorkFolder(self.path / uuid.uuid4().hex)
        folder.create()
        return folder

    def record(self, folder: WorkFolder, config: str) -> Commit:
        """Fixes what an attempt staged as what is published."""
        files = {path.name: _digest(path) for path in sorted(folder.staged.glob("*.arrow"))}
        commit = Commit(folder.path.name, config, files)
        create_if_absent(self._commit, json.dumps(vars(commit)).encode())
        return commit

    def staged(self, commit: Commit) -> Iterator[bytes]:
        """The staged files that a record names.

        Raises:
            RunnerError: one is missing or is not what was recorded.
        """
        folder = WorkFolder(self.path / commit.attempt)
        for name, digest in commit.files.items():
            path = folder.staged / name
            if not path.is_file() or _digest(path) != digest:
                raise RunnerError(f"{path}: is not what the run drew; restore it, or choose another --run-id")
            yield path.read_bytes()

    def sweep(self) -> None:
        """Removes what runs that died left in the folder, but for draws that are recorded and not yet published."""
        for path in list(self.root.iterdir()):
            other = PrivateFolder(self.root, path.name)
            if path == self.path or not other._is_ours():
                continue
            with contextlib.suppress(RunnerError, OSError), other.locked():
                if other.commit() is None:
                    other.remove()

    def _is_ours(self) -> bool:
        """Whether the folder was made for a run, so that it may be removed."""
        return self._mark.is_file()

    def remove(self) -> None:
        """Removes everything of this run id but the lock and the quarantine."""
        for found in self.path.glob("*/quarantine"):
            shutil.rmtree(self.quarantine, ignore_errors=True)
            self.quarantine.parent.mkdir(mode=0o700, exist_ok=True)
            found.rename(self.quarantine)
        with contextlib.suppress(OSError):
            self._clear()

    def _clear(self) -> None:
        """Removes the folder, the mark last: what could not be removed whole is still known as a run's."""
        if not self.path.exists():
            return
        for path in list(self.path.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self._mark:
                path.unlink()
        shutil.rmtree(self.path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
