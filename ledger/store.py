"""Where entries are kept: a database, through SQLAlchemy. SQLite for one machine, PostgreSQL for a team."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy import exc

from ledger.entries import Entry
from transforms.errors import BudgetError, CheckError, ConfigError, RunnerError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

HEAD = "0001"
"""The newest migration."""

VERSION_TABLE = "discreet_ledger_version"

_WAIT_SECONDS = 60
_CONNECT_SECONDS = 10
_LOCK = 6_022_140_760
"""PostgreSQL's advisory lock under which a ledger is made."""

_TABLE = sql.Table(
    "entries",
    sql.MetaData(),
    sql.Column("dataset", sql.String(200), primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("kind", sql.String(20)),
    sql.Column("body", sql.Text),
    sql.Column("before", sql.String(64)),
    sql.Column("digest", sql.String(64)),
)


class Store:
    """The entries of a ledger. Nothing is ever changed or removed."""

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
                "ledger.url: is no URL of a database; write sqlite:///ledger.db or postgresql+psycopg://.."
            ) from None
        if any("password" in option for option in self.url.query):
            raise ConfigError("ledger.url: holds a password among its options; write it into PGPASSWORD or ~/.pgpass")
        if backend not in ("sqlite", "postgresql"):
            raise ConfigError(f"ledger.url: {self.name} is neither SQLite nor PostgreSQL; write sqlite:///ledger.db")
        if self._file is not None and ((self.url.database or "") in ("", ":memory:") or "\0" in str(self.url.database)):
            raise ConfigError("ledger.url: names no file, so nothing would be kept; write sqlite:///ledger.db")

    @property
    def name(self) -> str:
        """The URL without a password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def _file(self) -> Path | None:
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    def exists(self) -> bool:
        """Whether there is a ledger.

        Raises:
            RunnerError: the database cannot be reached.
        """
        if self._file is not None:
            return self._file.exists()
        with self._connected() as connection:
            return sql.inspect(connection).has_table(_TABLE.name)

    def create(self, rows: Sequence[tuple[Entry, str]] = ()) -> bool:
        """Makes a ledger unless there is one, whole or not at all. Returns whether this call made it.

        Args:
            rows: entries that it begins with, and the digests to keep beside them.
        """
        if self._file is None:
            with self._connected() as connection:
                connection.execute(sql.text(f"select pg_advisory_xact_lock({_LOCK})"))
                return not sql.inspect(connection).has_table(_TABLE.name) and _fill(connection, rows)
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._file.parent / f".{self._file.name}.{uuid.uuid4().hex}"
        try:
            with self._connected(sql.create_engine(sql.URL.create("sqlite", database=str(part)))) as connection:
                _fill(connection, rows)
            part.chmod(0o600)
            os.link(part, self._file)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True

    def entries(self, dataset: str) -> tuple[list[Entry], list[str]]:
        """The entries of a dataset in their order, and the digests kept beside them.

        Raises:
            RunnerError: the database cannot be reached or read.
            ConfigError: a newer version of Discreet wrote it.
        """
        chosen = sql.select(_TABLE).where(_TABLE.c.dataset == dataset).order_by(_TABLE.c.number)
        with self._connected() as connection:
            _check_version(connection)
            rows = connection.execute(chosen).all()
        entries = [Entry(dataset=row.dataset, number=row.number, kind=row.kind, body=row.body, before=row.before) for row in rows]
        return entries, [row.digest for row in rows]

    def append(self, entries: Sequence[Entry]) -> bool:
        """Adds entries after those that they were made for. False where somebody else has added others: read again."""
        try:
            with self._connected() as connection:
                _insert(connection, [(entry, entry.digest) for entry in entries])
        except exc.IntegrityError:
            return False
        return True

    def datasets(self) -> list[str]:
        """The datasets that have entries, in order of their names."""
        with self._connected() as connection:
            _check_version(connection)
            return list(connection.scalars(sql.select(_TABLE.c.dataset).distinct().order_by(_TABLE.c.dataset)))

    @contextmanager
    def _connected(self, engine: "Engine | None" = None) -> Iterator["Connection"]:
        """One transaction on a connection of its own."""
        if engine is None:
            engine = self._engine()
        try:
            with engine.begin() as connection:
                yield connection
        except exc.IntegrityError:
            raise
        except exc.DBAPIError as error:
            reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
            raise RunnerError(f"ledger {self.name}: the database failed ({reason}); correct that and start again") from None
        finally:
            engine.dispose()

    def _engine(self) -> "Engine":
        if self._file is None:
            try:
                return sql.create_engine(self.url, poolclass=sql.NullPool, connect_args={"connect_timeout": _CONNECT_SECONDS})
            except (ImportError, exc.NoSuchModuleError):
                raise ConfigError(f"ledger.url: {self.name} needs a driver; install discreet[postgresql]") from None
        # SQLite itself would make a new, empty ledger of a missing file.
        if not self._file.exists():
            raise missing(self.name)
        path = f"file:{quote(str(self._file.resolve()))}"
        url = sql.URL.create("sqlite", database=path, query={"mode": "rw", "uri": "true"})
        return sql.create_engine(url, poolclass=sql.NullPool, connect_args={"timeout": _WAIT_SECONDS})


def missing(name: str) -> BudgetError:
    """That there is no ledger where one was declared. A missing ledger is not an empty one."""
    return BudgetError(f"ledger {name}: there is none; restore it, or make a new one with discreet ledger init")


def _check_version(connection: "Connection") -> None:
    """Whether this is a ledger that can be read.

    Raises:
        CheckError: its file is damaged, so that entries could be missing without a trace.
        ConfigError: another version of Discreet wrote it.
    """
    if connection.dialect.name == "sqlite" and connection.execute(sql.text("pragma integrity_check")).scalar() != "ok":
        raise CheckError("ledger: its file is damaged; restore it from a backup")
    found = connection.execute(sql.text(f"select version_num from {VERSION_TABLE}")).scalar()
    if found != HEAD:
        raise ConfigError(
            f"ledger: is of version {found}, this Discreet knows {HEAD}; use the Discreet that wrote it, or a newer one"
        )


def _fill(connection: "Connection", rows: Sequence[tuple[Entry, str]]) -> bool:
    _migrate(connection)
    _insert(connection, rows)
    return True


def _insert(connection: "Connection", rows: Sequence[tuple[Entry, str]]) -> None:
    names = [name for name in _TABLE.columns.keys() if name != "digest"]  # noqa: SIM118
    values = [{name: getattr(entry, name) for name in names} | {"digest": digest} for entry, digest in rows]
    if values:
        connection.execute(sql.insert(_TABLE), values)


def _migrate(connection: "Connection") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "ledger:migrations")
    config.attributes |= {"connection": connection, "version_table": VERSION_TABLE}
    command.upgrade(config, "head")
