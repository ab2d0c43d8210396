"""Malformed configs: each is refused with exit 2 before any data is looked for, saying where, value, rule and cure.

The configs are the entries of malformed_configs.yaml, which explains them.
"""

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from pipelines.schema import config_schema

CORPUS = Path(__file__).with_name("malformed_configs.yaml")
LOOKS = ("pipelines.inputs.find_files", "pipelines.files.find_files", "transforms.file_state.FileState.of")
"""What finds the data files of a config, and sees whether they are there. Inputs first: importing it binds what files has."""


def written(node: Node) -> Any:
    """A tree of YAML whose scalars are as they were written: the plain ones bare, others in quotes."""
    if isinstance(node, MappingNode):
        return {written(key): written(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [written(value) for value in node.value]
    return node.value if node.style is None else json.dumps(node.value, ensure_ascii=False)


def flow(tree: Any) -> str:
    """Such a tree as YAML on one line."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in tree.items()) + "}"
    return f"[{', '.join(map(flow, tree))}]" if isinstance(tree, list) else tree


def plain(tree: Any) -> Any:
    """Such a tree with every scalar as its text."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return json.loads(tree) if tree.startswith('"') else tree


def parts(place: str) -> list[str | int]:
    """The steps to a place such as releases[0].name."""
    return [int(step[1:-1]) if step[0] == "[" else step for step in re.findall(r"\[\d+\]|[^.\[]+", place)]


@dataclass(frozen=True)
class Entry:
    """One malformed config, and what must be told about it.

    Attributes:
        places: what is changed, and what is put there; None where it is left out.
        tree: the config, as it is written; None where it is a text of its own.
    """

    line: int
    places: tuple[tuple[str, Any], ...]
    tree: Any
    content: bytes
    variables: tuple[str, ...]
    says: tuple[str, ...]
    faults: int

    @property
    def name(self) -> str:
        """What pytest calls it: its line in the corpus, and what is changed."""
        changes = [f"{place}={'REMOVED' if value is None else flow(value)}" for place, value in self.places]
        return f"{self.line} " + " ".join(changes or [repr(self.content)[:60]])


@cache
def base() -> dict[str, Any]:
    """The config that the entries change, as it is written."""
    return _corpus()[0]


@cache
def entries() -> tuple[Entry, ...]:
    """The corpus."""
    return tuple(_entry(line, entry) for line, entry in _corpus()[1])


@cache
def _corpus() -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    tree = YAML(typ="base", pure=True).compose(CORPUS)
    first, second = (value for _, value in tree.value)
    return written(first), [(node.start_mark.line + 1, written(node)) for node in second.value]


def _entry(line: int, entry: dict[str, Any]) -> Entry:
    assert not entry.keys() - {"at", "put", "remove", "all", "text", "bytes", "var", "faults", "says"}, f"line {line}"
    changes = entry.get("all", [entry] if "at" in entry else [])
    assert all(("put" in change) != ("remove" in change) for change in changes), f"line {line}: put or remove"
    places = tuple((plain(change["at"]), change.get("put")) for change in changes)
    tree = None
    if "text" in entry or "bytes" in entry:
        content = plain(entry["text"]).encode() if "text" in entry else plain(entry["bytes"]).encode("latin-1")
    else:
        tree = copy.deepcopy(base())
        for place, value in places:
            _put(tree, place, value)
        content = flow(tree).encode()
    says, variables = tuple(plain(entry["says"])), tuple(plain(entry.get("var", [])))
    return Entry(line, places, tree, content, variables, says, int(entry.get("faults", "1")))


def _put(tree: Any, place: str, value: Any) -> None:
    *parents, last = parts(place)
    for step in parents:
        tree = tree[step]
    if value is None:
        del tree[last]
    elif isinstance(tree, list) and last == len(tree):
        tree.append(value)
    else:
        tree[last] = value


def touched(entry: Entry) -> Iterator[tuple[str, str]]:
    """The keys that an entry is about, as places without numbers, and what it does to them: it puts or removes them."""
    for place, value in entry.places:
        where = _FREE.sub(r"\1.*", ".".join(step for step in parts(place) if isinstance(step, str)))
        yield where, "remove" if value is None else "put"
        if where == "events.privacy_unit" and isinstance(value, dict):
            yield from ((f"{where}.{key}", "put") for key in value)


_FREE = re.compile(r"^(events\.types|events\.normalise|events\.derive|releases\.keys\.values)\.[^.]+")
"""Where keys are names of columns."""


def required(part: dict[str, Any], schema: dict[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """What must be tried at each key below a part of the schema: another value, none where one is needed, an unknown key."""
    part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    inner = [*part.get("anyOf", []), *part.get("oneOf", []), *([part["items"]] if "items" in part else [])]
    for other in inner:
        yield from required(other, schema, where)
    below = f"{where}." if where else ""
    if isinstance(part.get("additionalProperties"), dict):
        yield from required(part["additionalProperties"], schema, f"{below}*")
    if part.get("additionalProperties") is False and "properties" in part:
        yield where, "unknown"
    for key, value in part.get("properties", {}).items():
        yield f"{below}{key}", "put"
        if key in part.get("required", []):
            yield f"{below}{key}", "remove"
        yield from required(value, schema, f"{below}{key}")


def is_place(place: str, tree: Any, missing: bool) -> bool:
    """Whether a config has this place; what is missing may lack its last step."""
    # Two forms are told as what they stand for: a text as a list of one, and a list as the columns of the privacy unit.
    place = place.replace("privacy_unit.columns[", "privacy_unit[")
    *parents, last = parts(place)
    for step in parents:
        if not _has(tree, step):
            return False
        tree = tree[step]
    return missing or _has(tree, last) or (last == 0 and isinstance(tree, str))


def _has(tree: Any, step: str | int) -> bool:
    if isinstance(step, int):
        return isinstance(tree, list) and step < len(tree)
    return isinstance(tree, dict) and step in tree


@pytest.fixture
def looked(project: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done to find data; nothing, if a config is refused before."""
    found: list[str] = []

    def look(name: str) -> Any:
        def fail(*_: Any) -> None:
            found.append(name)
            raise AssertionError(name)

        return fail

    for name in LOOKS:
        monkeypatch.setattr(name, look(name))
    return found


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_r11_malformed_config(project, looked, entry):
    """One sentence a fault: where, value, rule, cure. No data is looked for, nothing is written."""
    path = project.root / "config.yaml"
    path.write_bytes(entry.content)
    there = sorted(project.root.rglob("*"))
    options = [option for variable in entry.variables for option in ("--var", variable)]
    ended = project.main("run", "config.yaml", *options)
    assert (ended.status, ended.out, looked) == (2, "", []), ended.err
    assert ended.err == ended.complaint + "\n"
    assert all(part in ended.complaint for part in entry.says), ended.complaint
    sentences = [line.removeprefix("discreet: ") for line in ended.complaint.splitlines()]
    assert len(sentences) == entry.faults, ended.complaint
    for sentence in sentences:
        place, _, rest = sentence.partition(": ")
        if not re.fullmatch(r"config\.yaml(, line \d+)?|--var \w+", place):
            assert entry.tree is not None, sentence
            assert is_place(place, plain(entry.tree), "missing" in rest), sentence
        assert re.search(r"\S; \S", rest) or rest.endswith("?"), sentence
    assert project.main("plan", "config.yaml", *options) == ended
    assert sorted(project.root.rglob("*")) == there


def test_the_corpus_is_large_and_repeats_nothing():
    """The 500 of R11 and more."""
    assert len(entries()) >= 500
    assert Counter((entry.content, entry.variables) for entry in entries()).most_common(1)[0][1] == 1


def test_the_corpus_meets_every_key():
    """Each key of the schema has a wrong value and, where it is needed, is missing; each mapping has an unknown key."""
    schema = json.loads(config_schema())
    tried = {fact for entry in entries() for fact in touched(entry)}
    tried |= {
        (where.rpartition(".")[0], "unknown")
        for entry in entries()
        if {"not a key", "not a key here"} & set(entry.says)
        for where, _ in touched(entry)
    }
    assert sorted(set(required(schema, schema)) - tried) == []


def test_the_base_is_complete(project, looked):
    """Without a change it has a plan, and what reads it looks for its files: the entries fail because of their change."""
    project.write_config(flow(base()))
    ended = project.main("plan", "config.yaml")
    assert (ended.status, ended.err) == (0, "")
    assert project.main("check", "config.yaml").status == 1
    assert looked == ["pipelines.inputs.find_files"]


BROKEN = {
    "NUL": "version: 1\0\n",
    "control character": 'dataset: "a\x1bb"\n',
    "list as key": "version: 1\n? [a, b]\n: c\n",
    "empty key": ": x\n",
    "refers to itself": "version: &a\n  b: *a\n",
    "list that holds itself": "version: &a [*a]\n",
    "merge key": "x: &x {version: 1}\n<<: *x\n",
    "python object": "version: !!python/object/apply:os.system [echo hello]\n",
    "very deep lists": "version: " + "[" * 5000 + "]" * 5000 + "\n",
    "very deep mappings": "".join(" " * depth + "a:\n" for depth in range(400)),
    "very long number": "budget: {epsilon: 1" + "0" * 5000 + ", delta: 1e-6}\n",
    "very long name": "dataset: " + "A" * 100_000 + "\n",
    "very many keys": "".join(f"key{number}: 1\n" for number in range(500)),
}
"""Texts that are too long to be entries, and those whose complaint does not say where."""


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_broken_yaml(project, looked, text):
    """Exit 2 and a cure, whatever is wrong with the text; never a fault of our own."""
    ended = project.main("run", str(project.write_config(text)))
    assert (ended.status, ended.out, looked) == (2, "", [])
    lines = ended.complaint.splitlines()
    assert lines
    assert all("; " in line or line.endswith("?") for line in lines), ended.complaint


@pytest.mark.parametrize("name", ["folder", "absent.yaml", "absent/config.yaml"])
def test_config_that_is_no_file(project, looked, name):
    """A folder, nothing."""
    (project.root / "folder").mkdir()
    ended = project.main("run", name)
    assert (ended.status, ended.out, looked) == (2, "", [])
    assert name in ended.complaint


@pytest.mark.parametrize(("op", "value"), [("in", []), ("not_in", []), ("=", {}), ("=", []), ("in", [["a"]])])
def test_a_condition_without_a_value(project, op, value):
    """`in []` drops every event, `not_in []` none: an unfilled template either way."""
    project.config["events"]["where"] = [{"column": "shop", "op": op, "value": value}]
    ended = project.main("plan", str(project.write_config()))
    assert ended.status == 2
    assert "events.where[0]" in ended.complaint


@pytest.mark.parametrize("releases", [1, 64])
def test_more_than_255_stages(project, looked, releases):
    """256 stages are refused in one release and in many, 255 are not."""
    metrics = 256 // releases
    one = project.release | {"keys": {"columns": ["shop"], "values": {"shop": ["ash"]}}}
    one["metrics"] = [{"name": f"takings{number}", "sum": "price", "clip": [0, number + 1]} for number in range(metrics)]
    project.config["releases"] = [copy.deepcopy(one) | {"name": f"by_shop{number}"} for number in range(releases)]
    for command in ("plan", "run"):
        ended = project.main(command, str(project.write_config()))
        assert (ended.status, ended.out, looked) == (2, "", [])
        assert ended.complaint == "discreet: releases: need 256 stages, more than 255; release less at once"
    project.config["releases"][0]["metrics"].pop()
    assert project.main("plan", str(project.write_config())).status == 0
