"""Budgets and releases for tests."""

from typing import Any

from privacy.bounds import UnitBounds
from privacy.release import Budget, Release

ALL_METRICS: list[dict[str, Any]] = [
    {"name": "events", "count": "events"},
    {"name": "units", "count": "units"},
    {"name": "total", "sum": "v", "clip": [0, 10]},
    {"name": "mean", "mean": "v", "clip": [0, 10]},
    {"name": "spread", "variance": "v", "clip": [-1, 1]},
    {"name": "root", "stddev": "v", "clip": [-1, 1]},
]


def unit_bounds(keys: int, rows: int, order: int = 2) -> UnitBounds:
    """The bounds of a vector."""
    return UnitBounds(keys_per_unit=keys, rows_per_key=rows, order=order)


def budget(epsilon: float = 1.0, delta: float = 1e-6) -> Budget:
    """A budget."""
    return Budget(epsilon=epsilon, delta=delta)


def release(
    name: str = "first",
    *,
    public: bool = False,
    keys_per_unit: int = 30,
    rows_per_key: int = 5,
    metrics: list[dict[str, Any]] | None = None,
    **others: Any,
) -> Release:
    """A release by one key column; `others` are fields of a release, as in a config."""
    keys: dict[str, Any] = {"columns": ["k"]}
    if public:
        keys["values"] = {"k": ["a", "b"]}
    bounds = {"keys_per_unit": keys_per_unit, "rows_per_key": rows_per_key}
    return Release.model_validate(
        {"name": name, "keys": keys, "bounds": bounds, "metrics": ALL_METRICS if metrics is None else metrics} | others
    )
