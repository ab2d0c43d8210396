"""Whether a file is still what it was when the run was planned."""

import os
from dataclasses import dataclass

from transforms.errors import InputError


@dataclass(frozen=True)
class FileState:
    """What a file looked like: bytes, and when it was last written, in nanoseconds."""

    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: str) -> "FileState":
        """The state of a file now.

        Raises:
            OSError: there is none.
        """
        found = os.stat(path)
        return cls(found.st_size, found.st_mtime_ns)

    def check(self, path: str) -> None:
        """Compares with the file as it is now.

        Raises:
            InputError: it changed, or is gone.
        """
        try:
            now = FileState.of(path)
        except OSError:
            raise InputError(f"{path}: went away while the run was reading; put it back and run again") from None
        if now != self:
            raise InputError(f"{path}: changed while the run was reading; run again when nothing writes to it")
