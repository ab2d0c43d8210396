"""Where entries are kept: a file, a database server, or an object on Cloud Storage."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import sqlalchemy as sql

from ledger import tables
from ledger.entries import Entry
from transforms.errors import BudgetError


class Store(ABC):
    """The entries of a ledger. Nothing is ever changed or removed.

    Attributes:
        name: its URL, without a password.
    """

    name: str

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a ledger.

        Raises:
            RunnerError: where it is kept cannot be reached.
        """

    @abstractmethod
    def create(self, rows: Sequence[tuple[Entry, str]] = ()) -> bool:
        """Makes a ledger unless there is one, whole or not at all. Returns whether this call made it.

        Args:
            rows: entries that it begins with, and the digests to keep beside them.
        """

    @abstractmethod
    def append(self, entries: Sequence[Entry]) -> bool:
        """Adds entries after those that they were made for. False where somebody else has added others: read again."""

    @abstractmethod
    def _connected(self) -> AbstractContextManager[sql.Connection]:
        """One transaction on the entries as they are now."""

    def entries(self, dataset: str) -> tuple[list[Entry], list[str]]:
        """The entries of a dataset in their order, and the digests kept beside them.

        Raises:
            RunnerError: where it is kept cannot be reached or read.
            ConfigError: a newer version of Discreet wrote it.
        """
        with self._connected() as connection:
            tables.check_version(connection)
            return tables.entries(connection, dataset)

    def datasets(self) -> list[str]:
        """The datasets that have entries, in order of their names."""
        with self._connected() as connection:
            tables.check_version(connection)
            return tables.datasets(connection)


def open_store(url: str | Path) -> Store:
    """The store at a URL, or in the SQLite file at a path. Opens nothing yet.

    Raises:
        ConfigError: the URL is none of anything that a ledger can be in.
    """
    if isinstance(url, str) and url.startswith("gs://"):
        from ledger.cloud_object import CloudObject

        return CloudObject(url)
    from ledger.database import Database

    return Database(url)


def missing(name: str) -> BudgetError:
    """That there is no ledger where one was declared. A missing ledger is not an empty one."""
    return BudgetError(f"ledger {name}: there is none; restore it, or make a new one with discreet ledger init")
