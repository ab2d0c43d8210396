"""A ledger in a database, through SQLAlchemy: an SQLite file for one machine, PostgreSQL for a team."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy import exc

from ledger import tables
from ledger.entries import Entry
from ledger.store import Store, missing
from transforms.errors import ConfigError, RunnerError

_WAIT_SECONDS = 60
_CONNECT_SECONDS = 10
_LOCK = 6_022_140_760
"""PostgreSQL's advisory lock under which a ledger is made."""


class Database(Store):
    """A ledger in a database."""

    def __init__(self, url: str | Path) -> None:
        """Opens nothing yet.

        Args:
            url: of a database, or the path of an SQLite file.

        Raises:
            ConfigError: the URL is none of a database that a ledger can be in.
        """
        try:
            self.url = sql.make_url(url) if isinstance(url, str) else sql.URL.create("sqlite", database=str(url))
            backend = self.url.get_backend_name()
            self.url.get_driver_name()
        except (exc.ArgumentError, ValueError):
            raise ConfigError(
                "ledger.url: is no URL that a ledger can have; write sqlite:///ledger.db, postgresql+psycopg://.. or gs://.."
            ) from None
        self.name = self.url.render_as_string(hide_password=True)
        if any("password" in option for option in self.url.query):
            raise ConfigError("ledger.url: holds a password among its options; write it into PGPASSWORD or ~/.pgpass")
        if backend not in ("sqlite", "postgresql"):
            raise ConfigError(f"ledger.url: {self.name} is neither SQLite nor PostgreSQL; write sqlite:///ledger.db")
        self._file = Path(self.url.database or "") if backend == "sqlite" else None
        if self._file is not None and ((self.url.database or "") in ("", ":memory:") or "\0" in str(self.url.database)):
            raise ConfigError("ledger.url: names no file, so nothing would be kept; write sqlite:///ledger.db")

    def exists(self) -> bool:
        if self._file is not None:
            return self._file.exists()
        with self._connected() as connection:
            return tables.has_entries(connection)

    def create(self, rows: Sequence[tuple[Entry, str]] = ()) -> bool:
        if self._file is None:
            with self._connected() as connection:
                connection.execute(sql.text(f"select pg_advisory_xact_lock({_LOCK})"))
                if tables.has_entries(connection):
                    return False
                tables.make(connection, rows)
                return True
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._file.parent / f".{self._file.name}.{uuid.uuid4().hex}"
        try:
            engine = sql.create_engine(sql.URL.create("sqlite", database=str(part)), poolclass=sql.NullPool)
            with told(self.name), engine.begin() as connection:
                tables.make(connection, rows)
            part.chmod(0o600)
            os.link(part, self._file)
        except FileExistsError:
            return False
        finally:
            for left in (part, part.with_name(f"{part.name}-journal")):
                left.unlink(missing_ok=True)
        return True

    def append(self, entries: Sequence[Entry]) -> bool:
        try:
            with self._connected() as connection:
                tables.append(connection, entries)
        except exc.IntegrityError:
            return False
        return True

    @contextmanager
    def _connected(self) -> Iterator[sql.Connection]:
        # SQLite itself would make a new, empty ledger of a missing file.
        if self._file is not None and not self._file.exists():
            raise missing(self.name)
        with told(self.name), self._engine.begin() as connection:
            yield connection

    @cached_property
    def _engine(self) -> sql.Engine:
        if self._file is None:
            try:
                return sql.create_engine(self.url, poolclass=sql.NullPool, connect_args={"connect_timeout": _CONNECT_SECONDS})
            except (ImportError, exc.NoSuchModuleError):
                raise ConfigError(f"ledger.url: {self.name} needs a driver; install discreet[postgresql]") from None
        path = f"file:{quote(str(self._file.resolve()))}"
        url = sql.URL.create("sqlite", database=path, query={"mode": "rw", "uri": "true"})
        return sql.create_engine(url, poolclass=sql.NullPool, connect_args={"timeout": _WAIT_SECONDS})


@contextmanager
def told(name: str) -> Iterator[None]:
    """Says in a sentence what a database failed at.

    Raises:
        RunnerError: it failed. `IntegrityError` is for the caller.
    """
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        raise RunnerError(f"ledger {name}: the database failed ({reason}); correct that and start again") from None
