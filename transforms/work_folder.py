"""The private folder of one attempt of a run, shared by its workers: batches, staged releases, an error."""

import contextlib
import functools
import json
import os
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyarrow as pa

from transforms.errors import DiscreetError, InputError, RunnerError, Status

P = ParamSpec("P")


def create_if_absent(path: Path, data: bytes, part_folder: Path | None = None) -> bool:
    """Writes a file whole or not at all, unless there is one. Returns whether this call wrote it.

    Args:
        part_folder: where it is written before it gets its name; by default where it will lie.
    """
    part = (part_folder or path.parent) / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


_REPORTED: dict[Path, DiscreetError] = {}
"""Errors of workers in this process, for when the disk that the folder is on has failed."""


@dataclass(frozen=True)
class WorkFolder:
    """Paths in the private folder of an attempt."""

    path: Path

    @property
    def batches(self) -> Path:
        return self.path / "batches"

    @property
    def staged(self) -> Path:
        return self.path / "staged"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine"

    @property
    def _error(self) -> Path:
        return self.path / "error.json"

    @property
    def _reading(self) -> Path:
        return self.path / "reading"

    def note_reading(self) -> None:
        """Called before any data is read."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reading.touch()

    @property
    def was_read(self) -> bool:
        """Whether a worker that shares this folder may have read data. What could not be read might be there."""
        return self._reading.exists()

    def create(self) -> None:
        for folder in (self.path, self.batches, self.staged):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def report(self, error: DiscreetError) -> None:
        """Keeps the first error of a worker for the submitting process: a runner passes on neither class nor status."""
        _REPORTED.setdefault(self.path, error)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_if_absent(self._error, json.dumps([int(error.status), str(error)]).encode())

    def reported(self) -> DiscreetError | None:
        """The error that a worker reported."""
        try:
            status, message = json.loads(self._error.read_bytes())
        except (OSError, ValueError):
            return _REPORTED.get(self.path)
        error = DiscreetError(message)
        error.status = Status(status)
        return error


class HasFolder(Protocol):
    folder: WorkFolder


S = TypeVar("S", bound=HasFolder)


def guarded(
    process: Callable[Concatenate[S, P], Iterator[Any]],
) -> Callable[Concatenate[S, P], Iterator[Any]]:
    """Wraps the generator method of a step: whatever it raises becomes a reported error without data."""

    @functools.wraps(process)
    def wrapped(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        try:
            yield from process(self, *args, **kwargs)
        except Exception as error:
            clean = without_data(error)
            with contextlib.suppress(OSError):  # the disk that failed may be this one; the error still ends the run
                self.folder.report(clean)
            raise clean from None

    return wrapped


def without_data(error: BaseException) -> DiscreetError:
    """An error that says where and of what kind, but not with which values."""
    if isinstance(error, DiscreetError):
        return error
    if isinstance(error, pa.ArrowException) and not isinstance(error, pa.ArrowKeyError):
        return InputError(f"a file could not be read ({type(error).__name__}); check it with another Parquet reader")
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        place = f"{error.filename}: " if error.filename else ""
        return RunnerError(f"{place}reading or writing failed ({reason}); correct that and start the same command again")
    if isinstance(error, MemoryError):
        return RunnerError("out of memory; start with fewer workers: --direct_num_workers=1")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return DiscreetError(f"a fault of Discreet's own: {type(error).__name__}{place}; please report it")
