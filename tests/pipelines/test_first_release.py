"""docs/first-release.md: its commands, in an empty folder, with its answers, say and publish what it shows."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/first-release.md").read_text(encoding="utf-8")
STORES = ["Düsseldorf", "Graz", "Hamburg", "Köln", "Lübeck", "Münster", "Nürnberg", "Zürich"]


def commands() -> list[list[str]]:
    """The commands of the document, in its order."""
    return [line.split() for line in re.findall(r"^    ((?:python|discreet) .*)$", DOCUMENT, re.MULTILINE)]


def merged(config: Any, answers: Any) -> Any:
    """A config with some of its parts answered; lists of releases are answered one by one."""
    if isinstance(config, dict) and isinstance(answers, dict):
        return config | {key: merged(config.get(key), value) for key, value in answers.items()}
    if isinstance(config, list) and isinstance(answers, list) and len(config) == len(answers) == 1:
        return [merged(config[0], answers[0])]
    return answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first")


def test_the_document_is_what_happens(project, folder, monkeypatch):
    """Three commands after the file is there, and one question answered between them."""
    monkeypatch.chdir(folder)
    script, init, plan, run = commands()
    assert (script[0], init[:2], plan[:2], run[:2]) == ("python", ["discreet", "init"], ["discreet", "plan"], ["discreet", "run"])
    project.root = folder
    wrote = subprocess.run([sys.executable, str(ROOT / script[1]), *script[2:]], check=False)
    assert wrote.returncode == 0
    assert project.process(*init[1:]).status == 0
    answers = YAML(typ="safe", pure=True).load(re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)[1])
    config = YAML(typ="safe", pure=True).load(Path("shop.yaml"))
    YAML().dump(merged(config, answers), Path("shop.yaml"))
    assert project.process("check", "shop.yaml").status == 0
    planned = project.process(*plan[1:])
    for line in re.findall(r"^      ((?:select|events|people|amount_total) .*)$", DOCUMENT, re.MULTILINE):
        assert line in planned.out, line
    assert "A key appears with 50% probability where it has 113 units" in planned.out
    ended = project.process(*run[1:])
    assert ended.status == 0, ended.err
    assert "98.5% of dataset shop's limit is left, enough for 66 more runs like this." in ended.out
    table = project.table(
        "by_store", run_id=next(Path("out/shop/by_store").iterdir()).name.removeprefix("run="), output="out/shop"
    )
    assert table["store"].to_pylist() == STORES
    again = project.process(*run[1:])
    assert (again.status, "Already published" in again.out) == (0, True)
    aside = list(Path("out/shop.private/_quarantine").rglob("*.parquet"))
    assert len(aside) == 1
