"""A ledger on a real PostgreSQL."""

import socket

import pytest

from ledger.ledger import Ledger
from ledger.store import open_store
from tests.ledger.asking import ask, call
from tests.servers import PASSWORD
from transforms.errors import BudgetError, CheckError, DiscreetError, Status


def test_postgresql_from_init_to_verify(postgresql):
    """Refused where there is no ledger yet; made once; charged, settled, shown and verified."""
    url = postgresql.database("whole")
    for action in ("show", "runs", "verify"):
        with pytest.raises(BudgetError, match="there is none"):
            call(url, action)
    assert call(url, "init") == {"made": url.replace(PASSWORD, "***")}
    with pytest.raises(DiscreetError, match="is there already") as refused:
        call(url, "init")
    assert refused.value.status == Status.CONFIG
    ledger = Ledger(open_store(url))
    ledger.reserve(ask("a"))
    ledger.reserve(ask("b"))
    ledger.settle("people", "a")
    assert call(url, "show")["datasets"][0]["runs"] == {"settled": 1, "reserved": 1, "void": 0}
    assert [(run["run"], run["state"]) for run in call(url, "runs")["runs"]] == [("a", "settled"), ("b", "reserved")]
    assert call(url, "verify")["entries"] == 4
    asked = {"epsilon": 2.0, "delta": 1e-6, "reason": "why", "dataset": "people"}
    assert call(url, "limit", **asked)["limit"] == {"epsilon": 2.0, "delta": 1e-6}
    assert call(url, "show")["datasets"][0]["limit"] == {"epsilon": 2.0, "delta": 1e-6}
    with pytest.raises(CheckError):
        Ledger(open_store(url)).settle("people", "c")


def test_postgresql_copies(postgresql, ledger, file, tmp_path):
    """From SQLite and back: the same entries."""
    for run in ("a", "b", "c"):
        ledger.reserve(ask(run))
    ledger.settle("people", "b")
    url = postgresql.database("copies")
    assert call(f"sqlite:///{file}", "copy", to=url) == {"entries": 5, "to": url.replace(PASSWORD, "***")}
    assert Ledger(open_store(url)).books() == ledger.books()
    with pytest.raises(DiscreetError, match="is there already"):
        call(f"sqlite:///{file}", "copy", to=url)
    call(url, "copy", to=f"sqlite:///{tmp_path}/back.db")
    assert Ledger(open_store(f"sqlite:///{tmp_path}/back.db")).books() == ledger.books()


def test_r8_postgresql_is_edited(postgresql):
    """Status 6 for an edit or a gap; status 2 for a newer version."""
    url = postgresql.database("edited")
    open_store(url).create()
    for run in ("a", "b", "c"):
        Ledger(open_store(url)).reserve(ask(run))
    assert postgresql.execute("edited", "update entries set body = body || ' ' where number = 3") == 1
    with pytest.raises(CheckError, match="entry 3 of dataset people"):
        call(url, "verify")
    postgresql.execute("edited", "delete from entries where number = 3")
    with pytest.raises(CheckError):
        Ledger(open_store(url)).reserve(ask("d"))
    postgresql.execute("edited", "update discreet_ledger_version set version_num = '9999'")
    with pytest.raises(DiscreetError, match="9999") as refused:
        call(url, "show")
    assert refused.value.status == Status.CONFIG


def refused_without_password(url: str, secret: str) -> str:
    """Status 5, in one sentence without the password."""
    for action in ("init", "show"):
        with pytest.raises(DiscreetError) as refused:
            call(url, action)
        assert refused.value.status == Status.RUNNER
        assert secret not in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_a_wrong_password(postgresql):
    """Named neither by us nor by the server's own words."""
    message = refused_without_password(postgresql.url("postgres", "wrong-battery"), "wrong-battery")
    assert "password authentication failed" in message
    assert "discreet:***@127.0.0.1" in message


def test_a_password_from_the_environment(postgresql, monkeypatch):
    """As docs/operations.md advises."""
    postgresql.database("environment")
    url = f"postgresql+psycopg://discreet@127.0.0.1:{postgresql.port}/environment"
    monkeypatch.setenv("PGPASSWORD", "wrong-battery")
    refused_without_password(url, "wrong-battery")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert call(url, "init") == {"made": url}


def test_a_database_that_there_is_not(postgresql):
    """Nor is it made."""
    assert "does not exist" in refused_without_password(postgresql.url("nowhere"), PASSWORD)


def test_an_unreachable_server():
    """Nothing listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"postgresql+psycopg://discreet:{PASSWORD}@127.0.0.1:{port}/d"
    assert "refused" in refused_without_password(url, PASSWORD)


def test_the_server_stops_while_a_run_works(postgresql):
    """Status 5 for settling; the charge is there when it is back, and the next start settles."""
    url = postgresql.database("stopping")
    open_store(url).create()
    ledger = Ledger(open_store(url))
    ledger.reserve(ask("a"))
    postgresql.execute("postgres", "alter database stopping allow_connections false")
    with pytest.raises(DiscreetError) as refused:
        ledger.settle("people", "a")
    assert refused.value.status == Status.RUNNER
    postgresql.execute("postgres", "alter database stopping allow_connections true")
    assert [charge.state for charge in ledger.book("people").charges] == ["reserved"]
    ledger.settle("people", "a")


def test_a_database_that_another_application_uses(postgresql):
    """Whose migrations are Alembic's, too: the ledger is made beside them, or refused with a word."""
    url = postgresql.database("shared")
    postgresql.execute("shared", "create table alembic_version (version_num varchar(32) primary key)")
    postgresql.execute("shared", "insert into alembic_version values ('abcdef')")
    try:
        assert open_store(url).create()
    except DiscreetError:
        return
    assert Ledger(open_store(url)).reserve(ask("a")).state == "reserved"
