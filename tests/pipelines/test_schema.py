"""The config's JSON Schema: editors accept with it what Discreet accepts, and mark most of what it refuses."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor

from pipelines.schema import config_schema
from tests.pipelines.test_config_refused import Entry, base, entries, flow

ROOT = Path(__file__).parents[2]
EXAMPLES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "configs").glob("*.yaml"))}
README = re.findall(r"^```yaml\n(version: .*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

KINDS = {
    "unknown key": {"not a key", "not a key here"},
    "missing key": {"missing"},
    "wrong type": {"no text", "no list", "no mapping"},
    "unknown word": {"not known"},
    "no number": {"no number", "no whole number"},
    "out of range": {"write a larger number", "write a smaller number"},
    "empty list": {"list at least one"},
}
"""What editors mark, and by which words of the complaint the corpus has it."""

ONLY_A_RUN_SEES = {
    # Bounds are needed unless any so many rows are the privacy unit.
    ("releases[0].bounds", None),
    ("releases[1].bounds", None),
    ("releases[2].bounds", None),
    # To an editor, null is what may be left out.
    ("events.retain", "null"),
    ("events.privacy_unit", "{rows: null}"),
    # A reader of YAML has made numbers of these.
    ("version", "1.0"),
    ("events.privacy_unit", "{rows: 1_000}"),
    ("events.privacy_unit", "{rows: 0x10}"),
    ("events.retain.days", "3_65"),
    ("budget.epsilon", "1_0"),
    ("budget.epsilon", "0x2"),
    ("budget.delta", "1_0e-7"),
    ("releases[0].share", "1_000"),
    ("releases[0].share", "0x1"),
    ("releases[0].bounds.keys_per_unit", "0x10"),
    ("releases[0].bounds.rows_per_key", "1_0"),
    ("releases[0].select.cap", "1e3"),
    ("releases[0].metrics[2].clip", "[0, 1_000]"),
    ("releases[0].metrics[6].histogram.bins", "[0, .inf]"),
    ("releases[0].metrics[6].histogram.bins", "[0, 1_000]"),
    ("releases[0].metrics[6].histogram.bins", "[0, 0x10]"),
    ("output.files", "1_0"),
    ("output.files", "0x2"),
    ("ledger.limit.epsilon", "1_0"),
}


class _Reader(SafeConstructor):
    """YAML 1.2 as editors read it: dates are texts."""


_Reader.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def read(text: str) -> Any:
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Reader
    return reader.load(text)


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(config_schema()))


def marked(text: str) -> list[str]:
    """What an editor marks in a config."""
    return _marked(read(text))


def marked_tree(tree: Any) -> list[str]:
    """The same for a config of the corpus, whose scalars are as they were written."""
    return _marked(_values(tree))


def _marked(config: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(config)]


def _values(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {_scalar(key): _values(value) for key, value in tree.items()}
    return [_values(value) for value in tree] if isinstance(tree, list) else _scalar(tree)


@cache
def _scalar(text: str) -> Any:
    return read(text)


def parts(schema: Any) -> list[dict[str, Any]]:
    """Every schema within a schema, itself included."""
    if isinstance(schema, list):
        return [part for inner in schema for part in parts(inner)]
    if not isinstance(schema, dict):
        return []
    named = [inner for name in ("$defs", "properties") for inner in schema.get(name, {}).values()]
    return [schema, *parts(named), *parts([value for name, value in schema.items() if name not in ("$defs", "properties")])]


def test_the_file_is_what_the_command_prints(project):
    """`configs/schema.json` is made with `discreet schema > configs/schema.json`."""
    ended = project.main("schema")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == (ROOT / "configs/schema.json").read_text(encoding="utf-8")


def test_it_is_a_json_schema():
    """Of the version that it names, and with no keyword that JSON Schema does not know and so would not check."""
    schema = json.loads(config_schema())
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)
    known = {"$schema", "$defs", "$ref", "title", "description", "default", "type", "enum", "const", "anyOf", "oneOf"}
    known |= {"properties", "required", "additionalProperties", "propertyNames", "items", "prefixItems", "pattern", "format"}
    known |= {"minItems", "maxItems", "minProperties", "minLength", "maxLength", "minimum", "maximum"}
    known |= {"exclusiveMinimum", "exclusiveMaximum"}
    assert {name for part in parts(schema) for name in part} <= known


@pytest.mark.parametrize("text", [*EXAMPLES.values(), *README], ids=[*EXAMPLES, *(f"README {n}" for n in range(len(README)))])
def test_examples_are_valid(text):
    """Each config of `configs/`, and the README's."""
    assert marked(text) == []


def test_there_are_examples():
    """Otherwise the test above says nothing."""
    assert len(EXAMPLES) >= 4
    assert len(README) >= 1


def test_a_config_with_every_key_is_valid():
    """The base of the malformed configs."""
    assert marked(flow(base())) == []


@pytest.mark.parametrize("unit", ["user", "[user]", "[user, month]", "{rows: 10}"])
def test_every_form_of_the_privacy_unit_is_valid(unit):
    """One column, several, so many rows."""
    assert marked(flow(base() | {"events": base()["events"] | {"privacy_unit": unit}})) == []


@pytest.mark.parametrize("header", ["customer_id,shop,ordered_at,paid", "a,b,c,d"])
def test_what_init_writes_is_valid(project, header):
    """With the privacy unit found by its name, and with the question open."""
    rows = [f"{number},shop {number % 3},2024-01-{number:02d},{number}.50" for number in range(1, 29)]
    (project.root / "orders.csv").write_text("\n".join([header, *rows]) + "\n")
    ended = project.main("init", "orders.csv", "--to", "first.yaml")
    assert ended.status == 0, ended.err
    assert marked((project.root / "first.yaml").read_text(encoding="utf-8")) == []


def _of_kind(entry: Entry, words: set[str]) -> bool:
    marked_kind = entry.tree is not None and not entry.variables and bool(words & set(entry.says))
    return marked_kind and not _changes(entry) & ONLY_A_RUN_SEES


def _changes(entry: Entry) -> set[tuple[str, str | None]]:
    return {(place, None if value is None else flow(value)) for place, value in entry.places}


@pytest.mark.parametrize("kind", KINDS)
def test_what_editors_mark(kind):
    """All unknown keys, all wrong types of simple fields, and more."""
    assert marked(flow(base())) == []
    found = [entry for entry in entries() if _of_kind(entry, KINDS[kind])]
    assert len(found) >= 8
    assert [entry.name for entry in found if not marked_tree(entry.tree)] == []


def test_what_only_a_run_sees():
    """The exceptions are ones, and more than half of the malformed configs are marked."""
    assert marked(flow(base())) == []
    configs = [entry for entry in entries() if entry.tree is not None]
    unmarked = [entry for entry in configs if not marked_tree(entry.tree)]
    assert {change for entry in unmarked for change in _changes(entry)} >= ONLY_A_RUN_SEES
    assert len(unmarked) < len(configs) / 2
