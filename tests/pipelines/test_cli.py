"""The command line: what goes to stdout and stderr, options, exit statuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_plan_text_has_what_the_issue_lists(project):
    """Stages with share, bound, noise, interval, threshold, and the units that a key needs."""
    ended = project.main("plan", str(project.write_config()))
    assert (ended.status, ended.err) == (0, "")
    for part in ("by_shop", "select", "visits", "people", "takings", "average", "bound", "std. dev.", "95% interval", "Gaussian"):
        assert part in ended.out
    assert "50% probability" in ended.out
    assert "95% where" in ended.out


def test_plan_json_has_what_the_issue_lists(project):
    """One object; per stage mechanism, share, bound, standard deviation and interval; for the selection the threshold."""
    plan = project.main("plan", "--json", str(project.write_config())).json["plan"]
    stages = {stage["stage"]: stage for stage in plan["releases"]["by_shop"]}
    shared = {"takings.sum+average.sum", "takings.count+average.count"}
    assert set(stages) == {"select", "visits", "people", "items", *shared}
    for stage in stages.values():
        assert stage["mechanism"] == "discrete Gaussian"
        assert 0 < stage["share"] <= 1
        assert stage["bound"] > 0
        assert stage["interval_95"] == pytest.approx(1.959964 * stage["standard_deviation"], rel=1e-6)
    select = stages["select"]
    assert select["threshold"] > 1
    assert 1 <= select["units_to_appear_50"] <= select["units_to_appear_95"]
    assert sum(stage["share"] for stage in stages.values()) == pytest.approx(1)


def test_plan_reads_no_data(project):
    """The files need not exist, nor anything be written."""
    project.config["events"]["files"] = "nowhere/*.parquet"
    project.config["events"]["lookups"] = [{"file": "nowhere.parquet", "by": "shop", "columns": ["area"]}]
    before = sorted(project.root.rglob("*"))
    assert project.main("plan", str(project.write_config())).status == 0
    assert sorted(project.root.rglob("*")) == sorted([*before, project.root / "config.yaml"])


def test_plan_explains_defaults_of_shares(project):
    """Omitted shares and an omitted select are the same as written ones."""
    short = project.main("plan", "--json", str(project.write_config())).json
    project.release.update(share=1, select={"share": 1})
    for metric in project.release["metrics"]:
        metric["share"] = 1
    assert project.main("plan", "--json", str(project.write_config())).json == short


def test_two_plans_side_by_side(project):
    """Text shows both deviations and their ratio; JSON has both plans; a third config is refused."""
    first = str(project.write_config(name="first.yaml"))
    project.config["budget"]["epsilon"] = 1
    project.release["metrics"].pop()
    second = str(project.write_config(name="second.yaml"))
    ended = project.main("plan", first, second)
    assert ended.status == 0
    assert "side by side" in ended.out
    side = ended.out[ended.out.index("side by side") :]
    assert "visits" in side
    assert "average.sum" in side
    both = project.main("plan", "--json", first, second).json["plans"]
    assert [plan["plan"]["epsilon"] for plan in both] == [50, 1]
    assert project.main("plan", first, second, first).status == 2


def test_a_plan_that_cannot_be_kept(project):
    """delta too small for any noise: 2, from plan and from run."""
    project.config["budget"]["delta"] = 1e-200
    path = str(project.write_config())
    assert [project.main(command, path).status for command in ("plan", "run")] == [2, 2]


def test_run_json_is_one_object_on_stdout(project):
    """And the plan is on stderr."""
    ended = project.run()
    assert ended.status == 0, ended.err
    outcome = json.loads(ended.out)
    assert outcome["run"] == "one"
    assert outcome["drawn"] is True
    assert outcome["releases"]["by_shop"]["keys"] == 3
    assert (project.root / outcome["releases"]["by_shop"]["path"]).is_dir()
    assert (project.root / outcome["manifest"]).is_file()
    assert outcome["spent"] == {"epsilon": 50, "delta": 1e-4}
    assert "Plan of" in ended.err
    assert "Plan of" not in ended.out


def test_run_text_ends_with_what_a_person_needs(project):
    """The folder, published keys per release, what was spent."""
    ended = project.main("run", str(project.write_config()), "--run-id", "one", "--direct_num_workers=1")
    assert ended.status == 0
    for part in ("Published", "run one in out", "by_shop", "3", "epsilon 50", "delta 0.0001", "out/_runs/one.json"):
        assert part in ended.out
    assert "Plan of" in ended.err


def test_run_without_keys_hints_at_cures(project):
    """A newcomer's first run often publishes nothing."""
    project.config["budget"]["epsilon"] = 0.01
    ended = project.main("run", str(project.write_config()), "--direct_num_workers=1")
    assert ended.status == 0
    assert "by_shop has no key" in ended.out
    for cure in ("coarser", "keys_per_unit", "share", "epsilon"):
        assert cure in ended.out


@pytest.mark.parametrize("options", [["--bogus"], ["--bogus=1"], ["--epsilon", "9"], ["--run-idx", "a"], ["--jso"], ["extra"]])
def test_unknown_options_are_2(project, options):
    """Neither Discreet nor Beam knows them; nothing is run."""
    ended = project.main("run", str(project.write_config()), *options)
    assert (ended.status, ended.out) == (2, "")
    assert options[0].split("=")[0] in ended.complaint
    assert not (project.root / "out").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["foo"], ["plan"], ["run"], ["plan", "c.yaml", "--bogus"], ["run", "c.yaml", "--run-id"]]
)
def test_wrong_calls_are_2(project, arguments):
    """With a pointer to --help."""
    ended = project.main(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert "--help" in ended.complaint


@pytest.mark.parametrize(
    "option",
    ["--runner=Nonsense", "--direct_num_workers=many", "--direct_num_workers=-1", "--direct_running_mode=sideways"],
)
def test_wrong_values_of_beam_options_are_2(project, option):
    """The call is wrong, not the runner and not Discreet."""
    ended = project.main("run", str(project.write_config()), "--json", option)
    assert (ended.status, ended.out) == (2, ""), ended.complaint
    project.assert_nothing_published()


@pytest.mark.parametrize("workers", ["0", "1", "3"])
def test_the_number_of_workers_changes_no_release(project, workers):
    """At a huge epsilon, every number of workers publishes the same rows (0 means: as many as cores)."""
    project.config["budget"]["epsilon"] = 1e9
    path = str(project.write_config())
    ended = project.main("run", path, "--run-id", "one", "--json", f"--direct_num_workers={workers}")
    if ended.status == 2:  # refusing a number is fine, publishing something else is not
        return
    assert ended.status == 0
    table = project.table()
    assert table["shop"].to_pylist() == ["ash", "birch", "cedar"]
    assert table["visits"].to_pylist() == [240, 240, 240]


@pytest.mark.parametrize("run_id", ["../x", "a/b", "", ".hidden", "-x", "a b", "ä", "a" * 101, "a\n", "a\0b"])
def test_run_ids_that_break_the_rule(project, run_id):
    """They become names of files: [A-Za-z0-9][A-Za-z0-9._-]{0,99}."""
    ended = project.main("run", str(project.write_config()), f"--run-id={run_id}", "--json")
    assert (ended.status, ended.out) == (2, "")
    assert "--run-id" in ended.complaint
    assert not (project.root / "out").exists()


def test_run_ids_at_the_ends_of_the_rule(project):
    """One character, a hundred, and all kinds of characters."""
    for run_id in ("a", "9" * 100, "2024-01-01T00.00_x"):
        assert project.run(run_id=run_id).status == 0
        assert project.parts(run_id=run_id)


def test_default_run_id_is_of_the_config(project):
    """12 hex digits of the digest: the same command twice publishes once."""
    path = str(project.write_config())
    first = project.main("run", path, "--json", "--direct_num_workers=1").json
    assert first.pop("ledger")["part_left"] > 0.99
    assert len(first["run"]) == 12
    assert project.manifest(first["run"])["config_digest"].startswith(first["run"])
    again = project.main("run", path, "--json", "--direct_num_workers=1").json
    assert again == first | {"drawn": False}
    project.config["budget"]["epsilon"] = 51
    assert project.main("run", str(project.write_config()), "--json", "--direct_num_workers=1").json["run"] != first["run"]


def test_output_option(project):
    """Replaces output.path, and the private folder's default with it."""
    ended = project.run("--output", "elsewhere")
    assert ended.json["output"] == "elsewhere"
    assert project.parts(output="elsewhere")
    assert not (project.root / "out").exists()
    assert not (project.root / "elsewhere.private").exists()


def test_var_option(project):
    """Fills variables; without =, twice, unset and unused ones are refused."""
    project.config["events"]["files"] = "${folder}/${name}.parquet"
    path = str(project.write_config())
    ended = project.main("run", path, "--var", "folder=events", "--var", "name=a", "--json", "--direct_num_workers=1")
    assert ended.status == 0
    for wrong in (["--var", "folder"], ["--var", "folder=x"], ["--var", "=x"], ["--var", "folder=x", "--var", "folder=y"]):
        refused = project.main("run", path, *wrong)
        assert (refused.status, refused.out) == (2, "")


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["run", "--help"], ["--version"]])
def test_help_is_on_stdout(project, arguments):
    """With exit status 0."""
    ended = project.main(*arguments)
    assert (ended.status, ended.err) == (0, "")
    assert "discreet" in ended.out


@pytest.mark.parametrize("folder", ["[out]", "[/out]", "a [bold]b[/bold] c"])
def test_folders_are_shown_as_they_are_called(project, folder):
    """Square brackets in a path are no markup, before and after publishing."""
    ended = project.main("run", str(project.write_config()), "--output", folder, "--run-id", "one", "--direct_num_workers=1")
    assert ended.status == 0, ended.err
    assert f"Published: run one in {folder}\n" in ended.out


def test_config_paths_are_shown_as_they_are_called(project):
    """Neither in the name of the config."""
    (project.root / "[").mkdir()
    ended = project.main("plan", str(project.write_config(name="[/red]config.yaml").relative_to(project.root)))
    assert ended.status == 0, ended.err
    assert "[/red]config.yaml" in ended.out


def test_module_is_the_command(project):
    """`python -m pipelines.run` for operators that start a Python file; stdout is clean in a real process as well."""
    path = str(project.write_config())
    command = [sys.executable, "-m", "pipelines.run", path, "--run-id", "one", "--json", "--direct_num_workers=1"]
    started = subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=120, check=False)
    assert started.returncode == 0, started.stderr
    first = json.loads(started.stdout)
    del first["ledger"]
    again = project.process("run", path, "--run-id", "one", "--json")
    assert json.loads(again.out) == first | {"drawn": False}
    wrong = subprocess.run([*command, "--bogus"], cwd=project.root, capture_output=True, text=True, timeout=120, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_stderr_of_a_run_is_the_plan_only(project):
    """No library's warning distracts a newcomer."""
    ended = project.process("run", str(project.write_config()), "--run-id", "one", "--json")
    assert ended.status == 0
    assert ended.err.startswith("Plan of"), ended.err.splitlines()[:3]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_result_into_a_closed_pipe(project, options):
    """`discreet run ... | head -c 0`: the run is published, so the status is 0, and nothing is blamed on us."""
    with project.start("run", str(project.write_config()), "--run-id", "one", *options) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert Path(project.root, "out/_runs/one.json").exists()
    assert "Traceback" not in err
    assert "fault of Discreet" not in err
    assert process.returncode == 0
