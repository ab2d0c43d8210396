"""Servers of the tests' own, on the loopback interface."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

EMULATOR = "fake-gcs-server"
PASSWORD = "correct-horse"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a server, the hard way if it does not."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class PostgreSQL:
    """PostgreSQL."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder, self.binaries = folder, binaries
        self.port = free_port()
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
        stop(self.process)

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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Skips where there is none to start."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed: ledgers in it are untested")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    started = None
    try:
        started = PostgreSQL(folder, found[-1].parent)
        yield started
    finally:
        if started is not None:
            started.stop()
        shutil.rmtree(folder)


class CloudStorage:
    """An emulator of Google Cloud Storage, which keeps all in its memory."""

    def __init__(self, binary: str) -> None:
        self.port = free_port()
        options = ["-scheme", "http", "-host", "127.0.0.1", "-backend", "memory", "-log-level", "error"]
        self.process = subprocess.Popen([binary, *options, "-port", str(self.port)], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not self._listens():
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as called:
            return called.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def host(self) -> str:
        """For `STORAGE_EMULATOR_HOST`, which Google's clients call instead of the real one."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        body = json.dumps({"name": name}).encode()
        asked = urllib.request.Request(f"{self.host}/storage/v1/b", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            assert answer.status == 200
        return name


@pytest.fixture(scope="session")
def emulator() -> Iterator[CloudStorage]:
    """Skips where there is none to start."""
    binary = shutil.which(EMULATOR, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if binary is None:
        pytest.skip("the emulator of Cloud Storage is not installed: ledgers on it are untested")
    started = CloudStorage(binary)
    try:
        yield started
    finally:
        stop(started.process)


@pytest.fixture
def bucket(emulator: CloudStorage, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, which this process and those that it starts find."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.host)
    return emulator.bucket()
