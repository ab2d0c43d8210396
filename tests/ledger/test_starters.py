"""R5: many starters at once, in processes and threads, on SQLite and on a real PostgreSQL: exactly so many succeed as fit."""

import argparse
import multiprocessing
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.ledger import Ledger
from ledger.store import Store
from pipelines.ledger_commands import run_ledger_command
from tests.ledger.asking import ask, cost_of
from transforms.errors import BudgetError, CheckError, DiscreetError, Status

SLOW = bool(os.environ.get("DISCREET_SLOW"))
ROUNDS = 200 if SLOW else 2
PROCESSES, THREADS, FIT = 10, 5, 7


def _starter(url: str, name: str, barrier: Any, results: Any) -> None:
    """One of the starters: in each round it asks for a run of its own, and for one that all of them ask for."""
    for number in range(ROUNDS):
        for dataset, run in ((f"own{number}", name), (f"same{number}", "one")):
            barrier.wait(120)
            try:
                charge = Ledger(Store(url)).reserve(ask(run, cost_of(FIT), dataset=dataset))
                results.put((dataset, "charged", charge.digest))
            except Exception as error:
                results.put((dataset, type(error).__name__, str(error)))


def _process(url: str, name: str, barrier: Any, results: Any) -> None:
    threads = [threading.Thread(target=_starter, args=(url, f"{name}.{n}", barrier, results)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def start_all(url: str) -> dict[str, list[tuple[str, str]]]:
    """What became of every starter, by round."""
    context = multiprocessing.get_context("fork")
    starters = PROCESSES * THREADS
    barrier, results = context.Barrier(starters), context.SimpleQueue()
    processes = [context.Process(target=_process, args=(url, f"p{n}", barrier, results), daemon=True) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    found: dict[str, list[tuple[str, str]]] = {}
    for _ in range(starters * ROUNDS * 2):
        dataset, *outcome = results.get()
        found.setdefault(dataset, []).append((outcome[0], outcome[1]))
    for process in processes:
        process.join()
    return found


def assert_exactly_so_many(url: str) -> None:
    """In each round as many as fit are charged, the others are refused for the budget, and nothing is spent beyond the limit."""
    found = start_all(url)
    assert len(found) == 2 * ROUNDS
    ledger = Ledger(Store(url))
    for dataset, outcomes in found.items():
        assert len(outcomes) == PROCESSES * THREADS
        book = ledger.book(dataset)
        assert book is not None
        counts, digests = Counter(kind for kind, _ in outcomes), {text for kind, text in outcomes if kind == "charged"}
        assert digests == {charge.digest for charge in book.charges}
        assert all(map(book.limit.admits, book.spent()))
        if dataset.startswith("own"):
            assert counts == {"charged": FIT, "BudgetError": PROCESSES * THREADS - FIT}, outcomes
            assert book.spent() == [cost_of(FIT).times(FIT)]
        else:
            assert counts == {"charged": PROCESSES * THREADS}, outcomes
            assert (len(book.charges), book.spent()) == (1, [cost_of(FIT)])


def test_r5_on_sqlite(file):
    """50 starters, one file."""
    assert_exactly_so_many(f"sqlite:///{file}")


def test_r5_where_no_ledger_is_there_yet(tmp_path):
    """All make it at once: one of them does, and everybody uses that one."""
    for number in range(ROUNDS):
        url = f"sqlite:///{tmp_path}/{number}/ledger.db"
        made = _all_at_once(url)
        assert Counter(made) == {True: 1, False: 7}
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["ledger.db"]


def _create(url: str, barrier: Any, made: Any) -> None:
    barrier.wait(60)
    try:
        made.put(Store(url).create())
    except Exception as error:
        made.put(f"{type(error).__name__}: {error}")


def _all_at_once(url: str) -> list[object]:
    """What `create` said to eight processes."""
    context = multiprocessing.get_context("fork")
    barrier, made = context.Barrier(8), context.SimpleQueue()
    processes = [context.Process(target=_create, args=(url, barrier, made)) for _ in range(8)]
    for process in processes:
        process.start()
    found = [made.get() for _ in processes]
    for process in processes:
        process.join()
    return found


# PostgreSQL

PASSWORD = "correct-horse"


class Server:
    """A PostgreSQL of the test's own, on the loopback interface."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder, self.binaries = folder, binaries
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        if self.user is not None:
            owner = pwd.getpwnam(self.user)
            for path in (folder, folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = [
            "-U",
            "discreet",
            "--auth-host=scram-sha-256",
            "--auth-local=trust",
            f"--pwfile={folder}/password",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        self._call("initdb", "-D", f"{folder}/data", *options)
        command = [binaries / "postgres", "-D", f"{folder}/data", "-p", str(self.port), "-h", "127.0.0.1", "-k", folder, "-F"]
        with open(folder / "log.txt", "wb") as log:
            self.process = subprocess.Popen(command, user=self.user, cwd=folder, stdout=log, stderr=log)
        self._wait()

    def _call(self, name: str, *arguments: str) -> None:
        subprocess.run([self.binaries / name, *arguments], user=self.user, cwd=self.folder, check=True, capture_output=True)

    def _wait(self) -> None:
        until = time.monotonic() + 60
        ready = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert self.process.poll() is None, (self.folder / "log.txt").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://discreet:{password}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """Without a password, through the file system."""
        return f"postgresql+psycopg://discreet@/{database}?host={self.folder}&port={self.port}"

    def database(self, name: str) -> str:
        """The URL of a new database."""
        import psycopg

        with psycopg.connect(self.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return self.url(name)

    def execute(self, database: str, statement: str) -> int:
        """Edits a database behind the ledger's back."""
        import psycopg

        with psycopg.connect(self.url(database).replace("+psycopg", "")) as connection:
            return connection.execute(statement).rowcount


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Skips where there is none to start."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed: ledgers in it are untested")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    started = None
    try:
        started = Server(folder, found[-1].parent)
        yield started
    finally:
        if started is not None:
            started.stop()
        shutil.rmtree(folder)


def call(url: str, action: str, **others: Any) -> Any:
    """`discreet ledger ...`"""
    return run_ledger_command(
        argparse.Namespace(**{"ledger": url, "config": None, "dataset": None, "action": action} | others)
    ).values


def test_r5_on_postgresql(server):
    """50 starters, one server."""
    server.database("starters")
    url = server.socket_url("starters")
    assert Store(url).create()
    assert_exactly_so_many(url)


def test_postgresql_from_init_to_verify(server):
    """Refused where there is no ledger yet; made once; charged, settled, shown and verified."""
    url = server.database("whole")
    for action in ("show", "runs", "verify"):
        with pytest.raises(BudgetError, match="there is none"):
            call(url, action)
    assert call(url, "init") == {"made": url.replace(PASSWORD, "***")}
    with pytest.raises(DiscreetError, match="is there already") as refused:
        call(url, "init")
    assert refused.value.status == Status.CONFIG
    ledger = Ledger(Store(url))
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
        Ledger(Store(url)).settle("people", "c")


def test_postgresql_copies(server, ledger, file, tmp_path):
    """From SQLite and back: the same entries."""
    for run in ("a", "b", "c"):
        ledger.reserve(ask(run))
    ledger.settle("people", "b")
    url = server.database("copies")
    assert call(f"sqlite:///{file}", "copy", to=url) == {"entries": 5, "to": url.replace(PASSWORD, "***")}
    assert Ledger(Store(url)).books() == ledger.books()
    with pytest.raises(DiscreetError, match="is there already"):
        call(f"sqlite:///{file}", "copy", to=url)
    call(url, "copy", to=f"sqlite:///{tmp_path}/back.db")
    assert Ledger(Store(f"sqlite:///{tmp_path}/back.db")).books() == ledger.books()


def test_r8_postgresql_is_edited(server):
    """Status 6 for an edit or a gap; status 2 for a newer version."""
    url = server.database("edited")
    Store(url).create()
    for run in ("a", "b", "c"):
        Ledger(Store(url)).reserve(ask(run))
    assert server.execute("edited", "update entries set body = body || ' ' where number = 3") == 1
    with pytest.raises(CheckError, match="entry 3 of dataset people"):
        call(url, "verify")
    server.execute("edited", "delete from entries where number = 3")
    with pytest.raises(CheckError):
        Ledger(Store(url)).reserve(ask("d"))
    server.execute("edited", "update discreet_ledger_version set version_num = '9999'")
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


def test_a_wrong_password(server):
    """Named neither by us nor by the server's own words."""
    message = refused_without_password(server.url("postgres", "wrong-battery"), "wrong-battery")
    assert "password authentication failed" in message
    assert "discreet:***@127.0.0.1" in message


def test_a_password_from_the_environment(server, monkeypatch):
    """As docs/operations.md advises."""
    server.database("environment")
    url = f"postgresql+psycopg://discreet@127.0.0.1:{server.port}/environment"
    monkeypatch.setenv("PGPASSWORD", "wrong-battery")
    refused_without_password(url, "wrong-battery")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert call(url, "init") == {"made": url}


def test_a_database_that_there_is_not(server):
    """Nor is it made."""
    assert "does not exist" in refused_without_password(server.url("nowhere"), PASSWORD)


def test_an_unreachable_server():
    """Nothing listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"postgresql+psycopg://discreet:{PASSWORD}@127.0.0.1:{port}/d"
    assert "refused" in refused_without_password(url, PASSWORD)


def test_the_server_stops_while_a_run_works(server):
    """Status 5 for settling; the charge is there when it is back, and the next start settles."""
    url = server.database("stopping")
    Store(url).create()
    ledger = Ledger(Store(url))
    ledger.reserve(ask("a"))
    server.execute("postgres", "alter database stopping allow_connections false")
    with pytest.raises(DiscreetError) as refused:
        ledger.settle("people", "a")
    assert refused.value.status == Status.RUNNER
    server.execute("postgres", "alter database stopping allow_connections true")
    assert [charge.state for charge in ledger.book("people").charges] == ["reserved"]
    ledger.settle("people", "a")


def test_r5_where_no_ledger_is_on_the_server_yet(server):
    """All make it at once."""
    for number in range(4):
        made = _all_at_once(server.database(f"made{number}"))
        assert Counter(made) == {True: 1, False: 7}, made


def test_a_database_that_another_application_uses(server):
    """Whose migrations are Alembic's, too: the ledger is made beside them, or refused with a word."""
    url = server.database("shared")
    server.execute("shared", "create table alembic_version (version_num varchar(32) primary key)")
    server.execute("shared", "insert into alembic_version values ('abcdef')")
    try:
        assert Store(url).create()
    except DiscreetError:
        return
    assert Ledger(Store(url)).reserve(ask("a")).state == "reserved"
