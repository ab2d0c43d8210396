"""Conditions against plain Python, for every operator and type, with nulls and NaN."""

import datetime as dt
import math
import operator
from decimal import Decimal

import pyarrow as pa
import pytest

from transforms.conditions import OPERATORS, Condition, fulfils

COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, listed: any(value == item or both_nan(value, item) for item in listed),
    "not_in": lambda value, listed: not any(value == item or both_nan(value, item) for item in listed),
}


def both_nan(one, other) -> bool:
    """Whether both are NaN: a NaN is in a list that holds one."""
    return isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)


NAN = float("nan")
COLUMNS = {
    "int8": (pa.int8(), [-128, 0, 5, 127, None]),
    "int64": (pa.int64(), [-(2**63), 0, 2**53, 2**53 + 1, 2**63 - 1, None]),
    "uint64": (pa.uint64(), [0, 2**63, 2**64 - 1, None]),
    "float64": (pa.float64(), [-math.inf, -0.0, 0.1, 1e308, math.inf, NAN, None]),
    "float32": (pa.float32(), [-math.inf, 0.5, NAN, None]),
    "string": (pa.string(), ["", " ", "a", "A", "\u00e9", "e\u0301", "z", None]),
    "bool": (pa.bool_(), [True, False, None]),
    "date32": (pa.date32(), [dt.date(1969, 12, 31), dt.date(2024, 2, 29), None]),
    "naive": (pa.timestamp("us"), [dt.datetime(1969, 12, 31, 23), dt.datetime(2024, 2, 29, 1), None]),
    "zoned": (
        pa.timestamp("us", "UTC"),
        [dt.datetime(2024, 2, 29, 1, tzinfo=dt.UTC), dt.datetime(2025, 1, 1, tzinfo=dt.UTC), None],
    ),
    "decimal": (pa.decimal128(9, 2), [Decimal("-0.01"), Decimal("1.10"), Decimal("9999999.99"), None]),
}


@pytest.mark.parametrize("op", COMPARE)
@pytest.mark.parametrize("name", COLUMNS)
def test_every_operator_is_that_of_python_and_nulls_fulfil_none(name, op):
    kind, values = COLUMNS[name]
    column = pa.array(values, kind)
    given = [value for value in values if value is not None]
    for wanted in [[value] for value in given] + ([given[:2]] if "in" in op else []):
        found = fulfils(column, Condition("x", op, pa.array(wanted, kind)))
        right = wanted if "in" in op else wanted[0]
        assert found.type == pa.bool_()
        assert [bool(holds) for holds in found.to_pylist()] == [
            value is not None and COMPARE[op](value, right) for value in column.to_pylist()
        ]


@pytest.mark.parametrize("name", COLUMNS)
def test_is_null_and_not_null_know_null_only(name):
    kind, values = COLUMNS[name]
    for op, expected in (("is_null", True), ("not_null", False)):
        found = fulfils(pa.array(values, kind), Condition("x", op, pa.nulls(0, kind)))
        assert found.to_pylist() == [(value is None) == expected for value in values]


def test_every_operator_is_tested():
    assert set(OPERATORS) == {*COMPARE, "is_null", "not_null"}
