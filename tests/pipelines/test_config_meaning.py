"""What a config means: scalars as written, variables, defaults, the digest."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ledger.entries import changed
from pipelines.config import Config, parse_config
from privacy.plan import make_plan
from transforms.errors import ConfigError

ISSUE = """
version: 1
dataset: grocery                       # what the ledger will charge, later
events:
  files: data/grocery/transactions/*.parquet      # path, glob (** crosses folders), or list; local or gs://
  privacy_unit: household_id                      # a column, or a list of columns
  lookups:
    - {file: data/grocery/products.parquet, by: product_id, columns: [department, product_category]}   # left join
  derive:
    month: {truncate: transaction_timestamp, to: month, timezone: America/New_York}     # hour day week month quarter year
  where:
    - {column: quantity, op: ">", value: 0}       # "=" "!=" "<" "<=" ">" ">=" in not_in is_null not_null; all must hold
budget: {epsilon: 2.0, delta: 1.0e-6}
releases:
  - name: monthly_departments
    share: 2
    keys: {columns: [department, month]}          # private keys: selected by DP
    bounds: {keys_per_unit: 30, rows_per_key: 5}
    select: {share: 1}
    metrics:
      - {name: purchases, count: events, share: 1}
      - {name: households, count: units, share: 1}
      - {name: revenue, sum: sales_value, clip: [0, 10], share: 2}
      - {name: average_price, mean: sales_value, clip: [0, 10], share: 1}
output: {path: out/grocery, files: 4}
"""


def parsed(tree: dict[str, Any], **variables: str) -> Config:
    """A config from Python values."""
    return parse_config(json.dumps(tree), variables)


@pytest.fixture
def tree(project) -> dict[str, Any]:
    """The base config."""
    return project.config


def test_the_issues_example_parses():
    """The form in the issue is the contract."""
    config = parse_config(ISSUE)
    release = config.releases[0]
    assert (config.events.files, config.events.privacy_unit.columns) == (
        ("data/grocery/transactions/*.parquet",),
        ("household_id",),
    )
    assert (release.share, release.bounds.keys_per_unit, release.bounds.rows_per_key) == (2, 30, 5)
    assert [metric.name for metric in release.metrics] == ["purchases", "households", "revenue", "average_price"]
    assert (config.budget.epsilon, config.budget.delta, config.output.files) == (2, 1e-6, 4)
    assert make_plan(config.budget, config.releases).epsilon == 2


@pytest.mark.parametrize("op", ["=", "!=", "<", "<=", ">", ">="])
def test_each_comparison_takes_one_value(tree, op):
    """The six comparisons of the issue."""
    tree["events"]["where"] = [{"column": "shop", "op": op, "value": "x"}]
    assert parsed(tree).events.where[0].value == "x"
    tree["events"]["where"][0]["value"] = ["x"]
    with pytest.raises(ConfigError, match=r"events\.where\[0\].*one value"):
        parsed(tree)


@pytest.mark.parametrize("op", ["in", "not_in"])
def test_membership_takes_a_list(tree, op):
    """A single value is a mistake, not a list of one."""
    tree["events"]["where"] = [{"column": "shop", "op": op, "value": ["x"]}]
    assert parsed(tree).events.where[0].value == ("x",)
    tree["events"]["where"][0]["value"] = "x"
    with pytest.raises(ConfigError, match=r"events\.where\[0\].*a list"):
        parsed(tree)


@pytest.mark.parametrize("op", ["is_null", "not_null"])
def test_null_tests_take_no_value(tree, op):
    """A value there would be ignored silently."""
    tree["events"]["where"] = [{"column": "shop", "op": op}]
    assert parsed(tree).events.where[0].value is None
    tree["events"]["where"][0]["value"] = "x"
    with pytest.raises(ConfigError, match=r"events\.where\[0\].*no value"):
        parsed(tree)


@pytest.mark.parametrize("written", ["NO", "007", "1e-6", "0x10", "true", "2024-01-01", "1.0", "null", "~", "012:30"])
def test_scalars_mean_what_is_written(tree, written):
    """YAML 1.1 would read a boolean, an octal number, a date, or nothing."""
    text = json.dumps(tree | {"events": tree["events"] | {"where": ["HERE"]}})
    config = parse_config(text.replace('"HERE"', f"{{column: shop, op: '=', value: {written}}}"))
    assert config.events.where[0].value == written


@pytest.mark.parametrize(("written", "meant"), [("1e-6", 1e-6), ("0.000001", 1e-6), ("1E-6", 1e-6), (".5", 0.5)])
def test_numbers_mean_what_is_written(tree, written, meant):
    """`1e-6` without a point is text in YAML 1.1."""
    text = json.dumps(tree).replace('"delta": 0.0001', f'"delta": {written}')
    assert parse_config(text).budget.delta == meant


def test_anchors_repeat_what_they_name():
    """Anchors and aliases are YAML 1.2; merge keys are not."""
    text = ISSUE.replace("sum: sales_value, clip: [0, 10]", "sum: sales_value, clip: &clip [0, 10]")
    text = text.replace("mean: sales_value, clip: [0, 10]", "mean: sales_value, clip: *clip")
    assert "*clip" in text
    assert parse_config(text).digest() == parse_config(ISSUE).digest()


def test_variables_are_filled_where_the_issue_says(tree):
    """In files, paths, values of where, and the file of public keys."""
    tree["events"] |= {
        "files": ["in/${week}/*.parquet", "in/${week}/${part}.parquet"],
        "lookups": [{"file": "${part}.parquet", "by": "shop", "columns": ["area"]}],
        "where": [{"column": "a", "op": "=", "value": "w${week}"}, {"column": "b", "op": "in", "value": ["${part}", "x"]}],
    }
    tree["releases"][0]["keys"]["from"] = "keys-${week}.parquet"
    tree["output"] |= {"path": "out/${week}", "private": "private/${week}"}
    config = parsed(tree, week="9", part="p")
    assert config.events.files == ("in/9/*.parquet", "in/9/p.parquet")
    assert config.events.lookups[0].file == "p.parquet"
    assert [condition.value for condition in config.events.where] == ["w9", ("p", "x")]
    assert config.releases[0].keys.file == "keys-9.parquet"
    assert (config.output.path, config.output.private) == ("out/9", "private/9")


def test_a_variables_value_is_filled_after_parsing(tree):
    """It can neither add keys nor bring in other variables."""
    tree["events"]["files"] = "${a}"
    value = '${b}", "version": 2, #\n- x: [&y'
    assert parsed(tree, a=value).events.files == (value,)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("dataset",), "${x}"),
        (("events", "privacy_unit"), "${x}"),
        (("events", "derive"), {"month": {"truncate": "at", "to": "${x}", "timezone": "UTC"}}),
        (("events", "where"), [{"column": "${x}", "op": "=", "value": "1"}]),
        (("budget", "epsilon"), "${x}"),
        (("budget", "delta"), "${x}"),
        (("output", "files"), "${x}"),
    ],
)
def test_variables_are_refused_elsewhere(tree, place, value):
    """The budget, bounds and mechanisms are in the file, and nowhere else."""
    part = tree
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(ConfigError, match=r"\$\{x\}.*variable"):
        parsed(tree, x="1")


@pytest.mark.parametrize("variables", [{}, {"x": "month"}])
def test_variables_are_refused_in_keys(tree, variables):
    """A derived column's name cannot come from outside, nor be `${x}` itself."""
    tree["events"]["derive"] = {"${x}": {"truncate": "at", "to": "month", "timezone": "UTC"}}
    with pytest.raises(ConfigError, match=r"\$\{x\}"):
        parsed(tree, **variables)


@pytest.mark.parametrize("field", ["keys_per_unit", "rows_per_key"])
def test_variables_are_refused_in_bounds(tree, field):
    """A bound from the command line would be a bound from anywhere."""
    tree["releases"][0]["bounds"][field] = "${x}"
    with pytest.raises(ConfigError, match=rf"releases\[0\]\.bounds\.{field}.*\$\{{x\}}.*variable"):
        parsed(tree, x="1")


def test_unset_and_unused_variables_are_errors(tree):
    """Both are typing errors most of the time."""
    tree["events"]["files"] = "${week}.parquet"
    with pytest.raises(ConfigError, match=r"events\.files: \$\{week\} is not set; add --var week=VALUE"):
        parsed(tree)
    with pytest.raises(ConfigError, match=r"--var weak: .*remove"):
        parsed(tree, week="1", weak="1")


def test_digest_is_of_the_meaning_not_the_text(tree):
    """Key order, comments, quotes and numbers' forms do not change it."""
    backwards = dict(reversed([(key, value) for key, value in tree.items()]))
    text = json.dumps(backwards, indent=2).replace('"epsilon": 50', '"epsilon": "50.0"   # a comment\n')
    assert text.index("version") > text.index("dataset")
    assert parse_config(text).digest() == parsed(tree).digest()


def test_digest_of_defaults_written_out(tree):
    """A default that is written is still the default, on every place that has one."""
    full = copy.deepcopy(tree)
    full["events"] |= {"lookups": [], "derive": {}, "where": []}
    full["events"] |= {"files": [tree["events"]["files"]], "privacy_unit": ["user"]}
    full["releases"][0] |= {"share": 1, "select": {"share": 1, "cap": 1024}}
    for metric in full["releases"][0]["metrics"]:
        metric["share"] = 1.0
    assert parsed(full).digest() == parsed(tree).digest()


def test_digest_of_the_default_private_folder_written_out(tree):
    """`output.private` has a default as well."""
    full = copy.deepcopy(tree)
    full["output"]["private"] = "out.private"
    assert parsed(full).private_path == parsed(tree).private_path
    assert parsed(full).digest() == parsed(tree).digest()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("budget.epsilon", 49),
        ("budget.delta", 2e-4),
        ("releases[0].bounds.keys_per_unit", 2),
        ("releases[0].metrics[2].clip[1]", 9),
        ("releases[0].metrics[0].share", 2),
        ("events.files[0]", "other/*.parquet"),
        ("output.files", 3),
    ],
)
def test_digest_changes_with_every_value(tree, path, value):
    """And `changed` names the place."""
    before = parsed(tree)
    resolved = before.resolved()
    part: Any = resolved
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    for key in parents:
        part = part[int(key) if key.isdigit() else key]
    part[int(last) if last.isdigit() else last] = value
    after = parsed(resolved)
    assert after.digest() != before.digest()
    assert list(changed(before.resolved(), after.resolved())) == [path]


def test_the_example_config_of_the_repository_parses():
    """configs/ holds complete, runnable examples."""
    configs = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    assert configs
    for path in configs:
        config = parse_config(path.read_text(), name=str(path))
        assert make_plan(config.budget, config.releases).stages
