"""docs/metrics.md says what the registry has."""

import math
import re
from collections import defaultdict
from collections.abc import Callable
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
NORMS: dict[str, Callable[[float], float]] = {
    "r sqrt(k)": lambda each: each,
    "r sqrt(k) H": lambda each: each * max(-LOW, HIGH),
    "r sqrt(k) h": lambda each: each * (HIGH - LOW) / 2,
    "r sqrt(k) h^2/2": lambda each: each * ((HIGH - LOW) / 2) ** 2 / 2,
    "r sqrt(2 k)": lambda each: each * math.sqrt(2),
    "sqrt(k)": lambda each: each / BOUNDS.rows_per_key,
}
EXAMPLES: dict[str, Any] = {
    "quantiles": {"quantiles": {"of": "v", "at": [0.5], "clip": [LOW, HIGH]}},
    "histogram": {"histogram": {"of": "v", "bins": [0, 1]}},
    "frequency": {"frequency": {"of": "v", "values": ["a"]}},
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
    stages: dict[str, list[tuple[str, str]]] = defaultdict(list)
    sections = {line[3:] for line in (DOCS / "guarantee.md").read_text().splitlines() if line.startswith("## ")}
    for named, label, _, norm, proof in tables()[0]:
        stages[named].append((label, norm.strip("`")))
        assert proof in sections
    assert {named.strip("`").split(":")[0] for named in stages} == set(KINDS)
    for named, described in stages.items():
        parts = example(named).parts(BOUNDS)
        assert [part.label for part in parts] == [label for label, _ in described], named
        for part, (_, norm) in zip(parts, described, strict=True):
            expected = NORMS[norm](BOUNDS.rows_per_key * math.sqrt(BOUNDS.keys_per_unit))
            assert part.vector.norm * part.vector.grid.step == pytest.approx(expected, rel=1e-6), named


def test_each_column_is_there():
    """What the table writes is a config, and makes the columns beside it."""
    found = set()
    for written, columns, *_ in tables()[1]:
        made = metric(YAML(typ="safe", pure=True).load(written.strip("`")))
        found.add(made.kind)
        assert list(made.names) == re.findall("`([^`]*)`", columns)
    assert found == set(KINDS)
