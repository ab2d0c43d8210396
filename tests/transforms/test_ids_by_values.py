"""Ids are those of the whole columns, however few of their rows are different."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from privacy.ids import make_ids, new_secret
from transforms.columns import as_id_words, ids_by_values

ROWS = 40_000
DRAW = np.random.default_rng(5)
COLUMNS = {
    "text": pa.array(np.array(["", "a", "ä" * 40, "b" * 100])[DRAW.integers(0, 4, ROWS)]),
    "nulls": pa.array(DRAW.integers(0, 9, ROWS), mask=DRAW.random(ROWS) < 0.2),
    "decimals": pa.array([Decimal(number) / 4 for number in range(16)] + [None], pa.decimal128(9, 2)).take(
        pa.array(DRAW.integers(0, 17, ROWS))
    ),
    "days": pa.array([dt.date(2024, 1, 1), dt.date(1969, 12, 31), None]).take(pa.array(DRAW.integers(0, 3, ROWS))),
    "many": pa.array(DRAW.integers(0, 2**40, ROWS)),
    "late": pa.array(np.where(np.arange(ROWS) < 10_000, 1, np.arange(ROWS))),
}


@pytest.mark.parametrize(
    ("names", "least"),
    [
        (["text"], True),
        (["nulls"], True),
        (["text", "nulls", "decimals", "days"], True),
        (["many"], False),
        (["late", "text"], False),
        (["text", "many"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_ids_are_the_same(names: list[str], least: bool) -> None:
    """Few different rows are asked about alone, many as they are; the ids are those of each row in either case."""
    words, secret = [as_id_words(COLUMNS[name]) for name in names], new_secret()
    asked = []

    def make(columns):
        asked.append(len(columns[0]))
        return make_ids(columns, secret, 7)

    found, expected = ids_by_values(words, make), make_ids(words, secret, 7)
    assert (found.high == expected.high).all()
    assert (found.low == expected.low).all()
    assert (asked[0] < 4000) == least
    few = ids_by_values([column.slice(3, 500) for column in words], make)
    assert (few.high == expected.high[3:503]).all()
