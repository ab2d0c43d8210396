"""Ledgers to try things on."""

from pathlib import Path

import pytest

from ledger.ledger import Ledger
from ledger.store import open_store


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a ledger without entries: making one takes longer than copying one."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    assert open_store(f"sqlite:///{path}").create()
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path, empty: bytes) -> Path:
    """The file of the test's own ledger."""
    path = tmp_path / "ledger.db"
    path.write_bytes(empty)
    return path


@pytest.fixture
def ledger(file: Path) -> Ledger:
    """A ledger without entries."""
    return Ledger(open_store(f"sqlite:///{file}"))
