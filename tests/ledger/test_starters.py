"""R5: many starters at once, in processes and threads, on every kind of ledger: exactly so many succeed as fit."""

from collections import Counter

from ledger.store import open_store
from tests.ledger.starters import ROUNDS, assert_exactly_so_many, made_at_once

MADE = {True: 1, False: 7}


def test_r5_on_sqlite(file):
    """50 starters, one file."""
    assert_exactly_so_many(f"sqlite:///{file}")


def test_r5_where_no_ledger_is_there_yet(tmp_path):
    """All make it at once: one of them does, and everybody uses that one."""
    for number in range(ROUNDS):
        url = f"sqlite:///{tmp_path}/{number}/ledger.db"
        made = made_at_once(url)
        assert Counter(made) == MADE
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["ledger.db"]


def test_r5_on_postgresql(postgresql):
    """50 starters, one postgresql."""
    postgresql.database("starters")
    url = postgresql.socket_url("starters")
    assert open_store(url).create()
    assert_exactly_so_many(url)


def test_r5_where_no_ledger_is_on_the_server_yet(postgresql):
    """All make it at once."""
    for number in range(4):
        made = made_at_once(postgresql.database(f"made{number}"))
        assert Counter(made) == MADE, made


def test_r5_on_cloud_storage(bucket):
    """50 starters, one object."""
    url = f"gs://{bucket}/ledger/"
    assert open_store(url).create()
    assert_exactly_so_many(url)


def test_r5_where_no_ledger_is_on_cloud_storage_yet(bucket):
    """All make it at once."""
    for number in range(4):
        made = made_at_once(f"gs://{bucket}/{number}/")
        assert Counter(made) == MADE, made
