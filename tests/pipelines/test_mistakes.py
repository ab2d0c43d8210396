"""docs/mistakes.md: each mistake is made with the real command, which says what the document says that it says."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs/mistakes.md"

CONFIG = """\
version: 1
dataset: sales
events:
  files: data/sales.csv
  privacy_unit: customer
  csv: {delimiter: ";", decimal: ",", timestamps: "%d/%m/%Y"}
  types: {amount: float64, date: date32}
budget: {epsilon: 1, delta: 1.0e-6}
releases:
  - name: by_shop
    keys: {columns: [shop]}
    bounds: {keys_per_unit: 3, rows_per_key: 5}
    metrics:
      - {name: visits, count: events}
      - {name: people, count: units}
      - {name: revenue, sum: amount, clip: [0, 50]}
output: {path: out}
"""
FIRST_LINE = "customer;date;shop;amount\n"
LINES = [f"k{n % 400};{n % 28 + 1:02d}/01/2024;{'ash' if n % 3 else 'birch'};{n % 50},50\n" for n in range(4000)]


@dataclass(frozen=True)
class Mistake:
    """A row of the table: the command that tells, its exit status, and the sentence."""

    wrong: str
    command: str
    status: int
    said: str
    cure: str


def mistakes() -> list[Mistake]:
    """The rows of the document's table."""
    rows = [line.strip("|").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    found = []
    for wrong, says, cure in rows[2:]:
        parts = re.fullmatch(r"(\w+), (\d): `(.+)`", says)
        assert parts, says
        found.append(Mistake(wrong.strip(), parts[1], int(parts[2]), parts[3], cure.strip()))
    return found


def replaced(old: str, new: str) -> Callable[[Any], None]:
    """The mistake of writing this into the config in place of that."""

    def write(project: Any) -> None:
        assert old in CONFIG
        project.write_config(CONFIG.replace(old, new))

    return write


def publish(project: Any) -> None:
    """Runs the right config; then the data change."""
    ended = project.process("run", "config.yaml")
    assert (ended.status, "Already" in ended.out, "by_shop" in ended.out) == (0, False, True), ended.err
    (project.root / "data/sales.csv").write_text(FIRST_LINE + "".join(LINES[:2000]))


MADE: dict[str, Callable[[Any], None]] = {
    "A path is wrong": replaced("data/sales.csv", "daat/sales.csv"),
    "`files` names a folder": replaced("data/sales.csv", "data"),
    "The file has semicolons": replaced('delimiter: ";", ', ""),
    "A sum of a column of CSV": replaced("amount: float64, ", ""),
    "Amounts have a decimal comma": replaced(' decimal: ",",', ""),
    "A question of `discreet init`": replaced("privacy_unit: customer", 'privacy_unit: "?"'),
    "A comma as the decimal sign": replaced("[0, 50]", "[0, 12,50]"),
    "A line of the config begins with a tab": replaced("  csv:", "\tcsv:"),
    "The keys are as fine as the persons": replaced("columns: [shop]", "columns: [customer]"),
    "The same config again": publish,
}


@pytest.fixture
def sales(project):
    """A project over a small CSV, whose config is right."""
    (project.root / "data").mkdir()
    (project.root / "data/sales.csv").write_text(FIRST_LINE + "".join(LINES))
    project.write_config(CONFIG)
    return project


def test_without_a_mistake_nothing_is_said(sales):
    """Otherwise the sentences below could be about something else."""
    for command in ("check", "plan", "run"):
        ended = sales.process(command, "config.yaml")
        assert (ended.status, ended.complaint) == (0, "")
    assert "by_shop                2" in ended.out
    assert not any(mistake.said in ended.out + ended.err for mistake in mistakes())


def test_the_table_has_the_mistakes_that_are_made_here():
    """In the same order, each with a cure."""
    table = mistakes()
    assert len(table) == len(MADE) == 10
    for mistake, start in zip(table, MADE, strict=True):
        assert mistake.wrong.startswith(start)
        assert mistake.cure


@pytest.mark.parametrize("start", MADE)
def test_a_mistake_is_told_as_the_document_says(sales, start):
    """By the command it names, with its status, as a line of its own; a colon and what it is about may follow."""
    (mistake,) = [mistake for mistake in mistakes() if mistake.wrong.startswith(start)]
    MADE[start](sales)
    ended = sales.process(mistake.command, "config.yaml")
    assert ended.status == mistake.status, ended.err
    lines = [line.removeprefix("discreet: ") for line in (ended.out if ended.status == 0 else ended.complaint).splitlines()]
    assert any(line == mistake.said or line.startswith(f"{mistake.said}: ") for line in lines), lines
    assert ended.status == 0 or len(lines) == 1


def test_another_folder_is_told_like_a_wrong_path(sales):
    """As the document says beside the sentence."""
    (sales.root / "data").rename(sales.root / "daat")
    ended = sales.process("check", "config.yaml")
    assert (ended.status, ended.complaint) == (4, "discreet: events.files: data/sales.csv names no file; correct the path")


def test_a_wrong_form_of_dates_is_told_like_a_wrong_decimal_sign(sales):
    (mistake,) = [mistake for mistake in mistakes() if "dates another form" in mistake.wrong]
    used = CONFIG.replace("columns: [shop]", "columns: [shop, date]")
    sales.write_config(used)
    assert sales.process("check", "config.yaml").status == 0
    sales.write_config(used.replace("%d/%m", "%m/%d"))
    ended = sales.process("check", "config.yaml")
    said = mistake.said.replace("column amount is no float64", "column date is no date32")
    assert (ended.status, ended.complaint) == (4, f"discreet: {said}")
