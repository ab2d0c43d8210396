"""Malformed configs: each is refused with exit 2 before any data is read, saying where, value, rule and cure."""

import copy
import json
from typing import Any

import pytest

FILES = {"events": {"files": "nowhere/*.parquet", "privacy_unit": "user"}}
REMOVED = object()

MALFORMED = [
    # where, what is put there, what the message must say
    ("version", REMOVED, ["version", "missing", "add"]),
    ("version", 2, ["version", "'2'", "write '1'"]),
    ("version", "one", ["version", "'one'", "write '1'"]),
    ("version", [1], ["version", "write '1'"]),
    ("dataset", REMOVED, ["dataset", "missing", "add"]),
    ("dataset", "Shops", ["dataset", "'Shops'", "lower-case", "write"]),
    ("dataset", "", ["dataset", "''", "letter", "write"]),
    ("databset", "x", ["databset", "not a key", "did you mean dataset?"]),
    ("qqqq", "x", ["qqqq", "not a key", "remove it or correct its name"]),
    ("events", "x", ["events", "'x'", "mapping", "write"]),
    ("events", [], ["events", "mapping", "write"]),
    ("events.files", [], ["events.files", "empty", "list at least one"]),
    ("events.files", REMOVED, ["events.files", "missing", "add"]),
    ("events.files", {"a": 1}, ["events.files", "no list", "write"]),
    ("events.privacy_unit", [], ["events.privacy_unit", "empty", "list at least one"]),
    ("events.privacy_unit", REMOVED, ["events.privacy_unit", "missing", "add"]),
    ("events.privacy_unit", ["user", "user"], ["privacy_unit", "repeats", "name each once"]),
    ("events.privacy_units", "user", ["events.privacy_units", "not a key", "did you mean privacy_unit?"]),
    ("events.lookups", [{"file": "x", "by": "shop"}], ["events.lookups[0].columns", "missing", "add"]),
    ("events.lookups", [{"file": "x", "by": "shop", "columns": []}], ["events.lookups[0].columns", "empty", "list"]),
    ("events.lookups", [{"file": "x", "by": "shop", "columns": ["a", "a"]}], ["'a'", "twice", "rename"]),
    ("events.derive", {"m": {"truncate": "at", "to": "decade", "timezone": "UTC"}}, ["events.derive.m.to", "'decade'", "write"]),
    (
        "events.derive",
        {"m": {"truncate": "at", "to": "day", "timezone": "Mars"}},
        ["events.derive.m.timezone", "'Mars'", "write"],
    ),
    ("events.derive", {"m": {"truncate": "at", "to": "day"}}, ["events.derive.m.timezone", "missing", "add"]),
    ("events.where", [{"column": "a", "op": "==", "value": 1}], ["events.where[0]", "'=='", "write one of"]),
    ("events.where", [{"column": "a", "op": "="}], ["events.where[0]", "needs a value", "add"]),
    ("events.where", [{"column": "a", "op": "=", "value": {}}], ["events.where[0].value", "write"]),
    ("events.where", {"column": "a", "op": "is_null"}, ["events.where", "no list", "write"]),
    ("budget", REMOVED, ["budget", "missing", "add"]),
    ("budget.epsilon", 0, ["budget.epsilon", "'0'", "above 0", "write"]),
    ("budget.epsilon", -1, ["budget.epsilon", "'-1'", "above 0", "write"]),
    ("budget.epsilon", "nan", ["budget.epsilon", "'nan'", "finite", "write"]),
    ("budget.epsilon", ".nan", ["budget.epsilon", "'.nan'", "number", "write"]),
    ("budget.epsilon", "inf", ["budget.epsilon", "'inf'", "finite", "write"]),
    ("budget.epsilon", "1e400", ["budget.epsilon", "'1e400'", "finite", "write"]),
    ("budget.epsilon", "1e-400", ["budget.epsilon", "'1e-400'", "above 0", "write"]),
    ("budget.epsilon", "two", ["budget.epsilon", "'two'", "number", "write"]),
    ("budget.epsilon", [1], ["budget.epsilon", "number", "write"]),
    ("budget.epsilon", "1_0", ["budget.epsilon", "'1_0'", "number", "write"]),
    ("budget.epsilom", 1, ["budget.epsilom", "not a key", "did you mean epsilon?"]),
    ("budget.delta", 0, ["budget.delta", "'0'", "above 0", "write"]),
    ("budget.delta", 1, ["budget.delta", "'1'", "below 1", "write"]),
    ("budget.delta", 1.5, ["budget.delta", "'1.5'", "below 1", "write"]),
    ("budget.delta", -0.5, ["budget.delta", "'-0.5'", "above 0", "write"]),
    ("budget.delta", "nan", ["budget.delta", "'nan'", "finite", "write"]),
    ("budget.delta", 1e-300, ["budget.delta", "1e-300", "too small", "write"]),
    ("releases", [], ["releases", "empty", "list at least one"]),
    ("releases", {"name": "x"}, ["releases", "no list", "write"]),
    ("releases.0.name", "1st", ["releases[0].name", "'1st'", "letter", "write"]),
    ("releases.0.name", "Sales", ["releases[0].name", "'Sales'", "lower-case", "write"]),
    ("releases.0.name", "umsätze", ["releases[0].name", "'umsätze'", "letters", "write"]),
    ("releases.0.name", "a/../b", ["releases[0].name", "'a/../b'", "letters", "write"]),
    ("releases.0.name", "a\n", ["releases[0].name", "letters", "write"]),
    ("releases.0.name", REMOVED, ["releases[0].name", "missing", "add"]),
    ("releases.0.share", 0, ["releases[0].share", "'0'", "must be", "write"]),
    ("releases.0.share", -1, ["releases[0].share", "'-1'", "must be", "write"]),
    ("releases.0.share", "nan", ["releases[0].share", "'nan'", "finite", "write"]),
    ("releases.0.select", {"share": 0}, ["releases[0].select.share", "'0'", "must be", "write"]),
    ("releases.0.select", {"cap": 0}, ["releases[0].select.cap", "'0'", "at least 1", "write"]),
    ("releases.0.keys", REMOVED, ["releases[0].keys", "missing", "add"]),
    ("releases.0.keys.columns", [], ["releases[0].keys.columns", "empty", "list at least one"]),
    ("releases.0.keys.columns", ["shop", "shop"], ["releases[0].keys", "repeat", "name each once"]),
    ("releases.0.keys.values", {"town": ["x"]}, ["releases[0].keys", "town", "list the values of each"]),
    ("releases.0.keys.values", {"shop": ["x", "x"]}, ["releases[0].keys", "repeats", "list each once"]),
    ("releases.0.bounds", REMOVED, ["releases[0].bounds", "missing", "add"]),
    ("releases.0.bounds.keys_per_unit", REMOVED, ["releases[0].bounds.keys_per_unit", "missing", "add"]),
    ("releases.0.bounds.rows_per_key", REMOVED, ["releases[0].bounds.rows_per_key", "missing", "add"]),
    ("releases.0.bounds.keys_per_unit", 0, ["releases[0].bounds.keys_per_unit", "'0'", "at least 1", "write"]),
    ("releases.0.bounds.rows_per_key", 0, ["releases[0].bounds.rows_per_key", "'0'", "at least 1", "write"]),
    ("releases.0.bounds.rows_per_key", 2.5, ["releases[0].bounds.rows_per_key", "'2.5'", "whole number", "write"]),
    ("releases.0.bounds.rows_per_key", "1_0", ["releases[0].bounds.rows_per_key", "'1_0'", "whole number", "write"]),
    ("releases.0.bounds.keys_per_unti", 3, ["releases[0].bounds.keys_per_unti", "did you mean keys_per_unit?"]),
    ("releases.0.metrics", [], ["releases[0].metrics", "empty", "list at least one"]),
    ("releases.0.metrics.0.name", "people", ["releases[0]", "'people'", "rename"]),
    ("releases.0.metrics.0.name", "people_low", ["releases[0]", "'people_low'", "rename"]),
    ("releases.0.metrics.0.name", "shop", ["releases[0]", "'shop'", "rename"]),
    ("releases.0.metrics.0.name", "9a", ["metrics[0]", "'9a'", "letter", "write"]),
    ("releases.0.metrics.0.name", "run", ["releases[0]", "'run'", "rename"]),
    ("releases.0.metrics.0.share", 0, ["metrics[0]", "share", "'0'", "must be", "write"]),
    ("releases.0.metrics.0.count", "rows", ["metrics[0]", "'rows'", "write 'events' or 'units'"]),
    ("releases.0.metrics.0.sum", "price", ["metrics[0]", "exactly one of", "write"]),
    ("releases.0.metrics.0.count", REMOVED, ["metrics[0]", "exactly one of", "write"]),
    ("releases.0.metrics.0", "visits", ["metrics[0]", "exactly one of", "write"]),
    ("releases.0.metrics.0.clip", [0, 1], ["metrics[0]", "clip", "not a key", "remove"]),
    ("releases.0.metrics.2.clip", REMOVED, ["metrics[2]", "clip", "missing", "add"]),
    ("releases.0.metrics.2.clip", [10, 2], ["metrics[2]", "clip", "[10, 2]", "reversed", "write [low, high]"]),
    ("releases.0.metrics.2.clip", ["nan", 2], ["metrics[2]", "clip", "[nan, 2]", "finite", "write"]),
    ("releases.0.metrics.2.clip", [0, "1e400"], ["metrics[2]", "clip", "inf", "finite", "write"]),
    ("releases.0.metrics.2.clip", [3, 3], ["metrics[2]", "clip", "[3, 3]", "empty", "below"]),
    ("releases.0.metrics.2.clip", [1], ["metrics[2]", "clip", "missing", "add"]),
    ("releases.0.metrics.2.clip", [1, 2, 3], ["metrics[2]", "clip", "too many", "list fewer"]),
    ("releases.0.metrics.4.clip", [10, 2], ["metrics[4]", "clip", "[10, 2]", "reversed", "write [low, high]"]),
    ("output", REMOVED, ["output", "missing", "add"]),
    ("output.path", "", ["output.path", "empty", "write"]),
    ("output.files", 0, ["output.files", "'0'", "at least 1", "write"]),
    ("output.files", "many", ["output.files", "'many'", "whole number", "write"]),
]


def put(tree: dict[str, Any], where: str, value: Any) -> None:
    """Changes one place of a config."""
    part: Any = tree
    *parents, last = [int(name) if name.isdigit() else name for name in where.split(".")]
    for name in parents:
        part = part[name]
    if value is REMOVED:
        del part[last]
    else:
        part[last] = value


@pytest.mark.parametrize(
    ("where", "value", "said"),
    MALFORMED,
    ids=[f"{where}={'REMOVED' if value is REMOVED else json.dumps(value)}" for where, value, _ in MALFORMED],
)
def test_r11_malformed_config(project, where, value, said):
    """One sentence that names the place, the value, the rule and the cure; nothing is read (the files do not exist)."""
    project.config["events"] |= FILES["events"]
    put(project.config, where, value)
    for command in ("plan", "run"):
        ended = project.main(command, str(project.write_config()))
        assert (ended.status, ended.out) == (2, "")
        assert all(part in ended.complaint for part in said), ended.complaint
        assert ended.err == ended.complaint + "\n"
        assert "Keys should be" not in ended.err
    assert not (project.root / "out").exists()
    assert not (project.root / "out.private").exists()


@pytest.mark.parametrize("where", ["releases.0.bounds.keys_per_unit", "releases.0.metrics.2.clip", "budget.epsilon"])
def test_one_mistake_is_one_sentence(project, where):
    """No second sentence about what the first one caused."""
    put(project.config, where, REMOVED)
    ended = project.main("plan", str(project.write_config()))
    assert len(ended.complaint.splitlines()) == 1, ended.complaint


def test_several_mistakes_are_all_named(project):
    """A newcomer corrects them in one go."""
    put(project.config, "budget.epsilon", 0)
    put(project.config, "output.files", 0)
    ended = project.main("plan", str(project.write_config()))
    assert "budget.epsilon" in ended.complaint
    assert "output.files" in ended.complaint


def test_duplicate_release_names(project):
    """They would write into one folder."""
    project.config["releases"].append(copy.deepcopy(project.release))
    ended = project.main("plan", str(project.write_config()))
    assert ended.status == 2
    assert "'by_shop'" in ended.complaint
    assert "rename" in ended.complaint


def test_a_key_column_called_run(project):
    """Readers add the partition column `run` to every release: a key column of that name clashes with it."""
    project.release["keys"]["columns"] = ["run"]
    ended = project.main("plan", str(project.write_config()))
    assert ended.status == 2
    assert "'run'" in ended.complaint


@pytest.mark.parametrize("columns", [["shop", "Shop"], ["Visits"], ["PEOPLE_LOW"], ["Run"]])
def test_output_columns_that_differ_by_case_only(project, columns):
    """DuckDB, Spark and BigQuery do not tell them apart."""
    project.release["keys"]["columns"] = columns
    ended = project.main("plan", str(project.write_config()))
    assert ended.status == 2
    assert "rename" in ended.complaint


@pytest.mark.parametrize("op", ["in", "not_in"])
def test_a_condition_with_an_empty_list(project, op):
    """`in []` drops every event, `not_in []` none: an unfilled template either way."""
    project.config["events"]["where"] = [{"column": "shop", "op": op, "value": []}]
    ended = project.main("plan", str(project.write_config()))
    assert ended.status == 2
    assert "events.where[0]" in ended.complaint


BROKEN = {
    "empty": "",
    "comment only": "# nothing\n",
    "list at top": "- version: 1\n",
    "scalar at top": "hello\n",
    "duplicate key": "version: 1\nversion: 1\n",
    "duplicate deeper": "version: 1\nbudget: {epsilon: 1, epsilon: 2}\n",
    "unclosed": "version: [1\n",
    "tab": "version: 1\n\tdataset: x\n",
    "two documents": "version: 1\n---\nversion: 1\n",
    "undefined alias": "version: *x\n",
    "NUL": "version: 1\0\n",
    "list as key": "version: 1\n? [a, b]\n: c\n",
    "mapping as key": "version: 1\n? {a: b}\n: c\n",
    "refers to itself": "version: &a\n  b: *a\n",
    "python object": "version: !!python/object/apply:os.system [echo hello]\n",
    "very deep": "version: " + "[" * 5000 + "]" * 5000 + "\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_broken_yaml(project, text):
    """Exit 2 and a cure, whatever is wrong with the text; never a fault of our own."""
    ended = project.main("run", str(project.write_config(text)))
    assert (ended.status, ended.out) == (2, "")
    lines = ended.complaint.splitlines()
    assert lines
    assert all(";" in line or "did you mean" in line for line in lines), ended.complaint


def test_broken_yaml_names_the_line(project):
    """Where: the file and the line."""
    path = project.write_config("version: 1\ndataset: [x\n", name="broken.yaml")
    ended = project.main("plan", str(path))
    assert "broken.yaml, line 3" in ended.complaint


def test_config_that_is_no_text(project):
    """Latin-1, a folder, nothing."""
    (project.root / "latin.yaml").write_bytes("dataset: umsätze".encode("latin-1"))
    (project.root / "folder").mkdir()
    for name in ("latin.yaml", "folder", "absent.yaml"):
        ended = project.main("run", name)
        assert (ended.status, ended.out) == (2, "")
        assert name in ended.complaint
