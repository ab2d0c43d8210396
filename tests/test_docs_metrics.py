"""docs/metrics.md says what the registry has."""

import math
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from privacy.bounds import UnitBounds
from privacy.metrics import KINDS, AnyMetric
from privacy.metrics.base import Metric

DOCS = Path(__file__).parents[1] / "docs"
BOUNDS = UnitBounds(keys_per_unit=7, rows_per_key=3)
LOW, HIGH = -2.0, 9.0
EVENTS = {2: BOUNDS.rows_per_key * math.sqrt(BOUNDS.keys_per_unit), 1: BOUNDS.rows_per_key * BOUNDS.keys_per_unit}
NORM = 90.0
EACH: dict[str, float] = {"": 1, " H": max(-LOW, HIGH), " h": (HIGH - LOW) / 2, " h^2/2": ((HIGH - LOW) / 2) ** 2 / 2}
NORMS: dict[int, dict[str, float]] = {
    2: {f"r sqrt(k){name}": EVENTS[2] * each for name, each in EACH.items()}
    | {"r sqrt(2 k)": EVENTS[2] * math.sqrt(2), "sqrt(k)": math.sqrt(BOUNDS.keys_per_unit), "norm": NORM},
    1: {f"r k{name}": EVENTS[1] * each for name, each in EACH.items()}
    | {"2 r k": EVENTS[1] * 2, "k": BOUNDS.keys_per_unit, "norm": NORM},
}
EXAMPLES: dict[str, Any] = {
    "quantiles": {"quantiles": {"of": "v", "at": [0.5], "clip": [LOW, HIGH]}},
    "histogram": {"histogram": {"of": "v", "bins": [0, 1]}},
    "frequency": {"frequency": {"of": "v", "values": ["a"]}},
    "vector_sum": {"vector_sum": ["v", "w"], "norm": NORM},
}


def tables() -> list[list[list[str]]]:
    """The cells of each table of the page, without its heading."""
    found: list[list[list[str]]] = [[]]
    for line in (DOCS / "metrics.md").read_text().splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table[2:] for table in found if table]


def metric(written: dict[str, Any]) -> Metric:
    return TypeAdapter[Any](AnyMetric).validate_python({"name": "a"} | written)


def example(named: str) -> Metric:
    """A metric as the table names it."""
    kind, _, of = named.strip("`").partition(": ")
    written = EXAMPLES.get(kind) or ({kind: of} if of else {kind: "v", "clip": [LOW, HIGH]})
    return metric(written)


def test_each_stage_is_there_with_its_norm():
    """Metrics, their stages and norms are those of the code, and each proof is a section of the guarantee."""
    stages: dict[str, list[tuple[str, dict[int, str]]]] = defaultdict(list)
    sections = {line[3:] for line in (DOCS / "guarantee.md").read_text().splitlines() if line.startswith("## ")}
    for named, label, _, l2, l1, proof in tables()[0]:
        stages[named].append((label, {2: l2.strip("`"), 1: l1.strip("`")}))
        assert proof in sections
    assert {named.strip("`").split(":")[0] for named in stages} == set(KINDS)
    for named, described in stages.items():
        for order in (1, 2):
            parts = example(named).parts(replace(BOUNDS, order=order))
            assert [part.label for part in parts] == [label for label, _ in described], named
            for part, (_, norms) in zip(parts, described, strict=True):
                norm = part.vector.norm * part.vector.grid.step
                assert norm == pytest.approx(NORMS[order][norms[order]], rel=1e-6), named


def test_each_column_is_there():
    """What the table writes is a config, and makes the columns beside it."""
    found = set()
    for written, columns, *_ in tables()[2]:
        made = metric(YAML(typ="safe", pure=True).load(written.strip("`")))
        found.add(made.kind)
        assert list(made.names) == re.findall("`([^`]*)`", columns)
    assert found == set(KINDS)
