"""Conditions on events: which of them stay."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Condition:
    """What a column must be for an event to stay. `values` has the column's type."""

    column: str
    op: str
    values: pa.Array


_COMPARE: dict[str, Callable[[pa.Array, pa.Scalar], pa.Array]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}

OPERATORS = (*_COMPARE, "in", "not_in", "is_null", "not_null")


def fulfils(column: pa.Array, condition: Condition) -> pa.Array:
    """Which values fulfil the condition. A null fulfils only `is_null`. bool, may hold nulls for False."""
    if condition.op == "is_null":
        return pc.is_null(column)
    if condition.op == "not_null":
        return pc.is_valid(column)
    if condition.op == "in":
        return pc.is_in(column, condition.values)
    if condition.op == "not_in":
        return pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, condition.values)))
    return _COMPARE[condition.op](column, condition.values[0])
