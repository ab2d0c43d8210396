"""The table of entries, on a connection to the database that holds it."""

from collections.abc import Sequence

import sqlalchemy as sql

from ledger.entries import Entry
from transforms.errors import CheckError, ConfigError, RunnerError

HEAD = "0001"
"""The newest migration."""

VERSION_TABLE = "discreet_ledger_version"

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


def has_entries(connection: sql.Connection) -> bool:
    """Whether there is a ledger in the database."""
    return sql.inspect(connection).has_table(_TABLE.name)


def make(connection: sql.Connection, rows: Sequence[tuple[Entry, str]]) -> None:
    """Makes a ledger that begins with entries, and the digests to keep beside them."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "ledger:migrations")
    config.attributes |= {"connection": connection, "version_table": VERSION_TABLE}
    command.upgrade(config, "head")
    _insert(connection, rows)


def check_version(connection: sql.Connection) -> None:
    """Whether this is a ledger that can be read.

    Raises:
        CheckError: its file is damaged, so that entries could be missing without a trace.
        RunnerError: reading it failed.
        ConfigError: another version of Discreet wrote it.
    """
    if connection.dialect.name == "sqlite":
        checked = str(connection.execute(sql.text("pragma integrity_check")).scalar())
        if "unable to get the page. error code=" in checked:
            raise RunnerError("ledger: its file cannot be read; correct that and start again")
        if checked != "ok":
            raise CheckError("ledger: its file is damaged; restore it from a backup")
    found = connection.execute(sql.text(f"select version_num from {VERSION_TABLE}")).scalar()
    if found != HEAD:
        raise ConfigError(
            f"ledger: is of version {found}, this Discreet knows {HEAD}; use the Discreet that wrote it, or a newer one"
        )


def entries(connection: sql.Connection, dataset: str) -> tuple[list[Entry], list[str]]:
    """The entries of a dataset in their order, and the digests kept beside them."""
    rows = connection.execute(sql.select(_TABLE).where(_TABLE.c.dataset == dataset).order_by(_TABLE.c.number)).all()
    found = [Entry(dataset=row.dataset, number=row.number, kind=row.kind, body=row.body, before=row.before) for row in rows]
    return found, [row.digest for row in rows]


def datasets(connection: sql.Connection) -> list[str]:
    """The datasets that have entries, in order of their names."""
    return list(connection.scalars(sql.select(_TABLE.c.dataset).distinct().order_by(_TABLE.c.dataset)))


def append(connection: sql.Connection, added: Sequence[Entry]) -> None:
    """Adds entries.

    Raises:
        sqlalchemy.exc.IntegrityError: there are others of their numbers.
    """
    _insert(connection, [(entry, entry.digest) for entry in added])


def _insert(connection: sql.Connection, rows: Sequence[tuple[Entry, str]]) -> None:
    names = [name for name in _TABLE.columns.keys() if name != "digest"]  # noqa: SIM118
    values = [{name: getattr(entry, name) for name in names} | {"digest": digest} for entry, digest in rows]
    if values:
        connection.execute(sql.insert(_TABLE), values)
