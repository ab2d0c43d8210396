"""`top`: the keys with the largest noisy values, chosen from what would have been published."""

import pytest

from privacy.noise import Noise

MANY = [f"shop{number:02d}" for number in range(30)]


@pytest.fixture
def asked(project):
    """30 listed shops, most of them without data: their values are noise."""
    project.config["budget"]["epsilon"] = 1
    project.release["keys"]["values"] = {"shop": [*MANY, "ash", "birch"]}
    return project


def of_one_draw(project, top, monkeypatch):
    """The same draw with and without `top`: of no noise at all, so that shops without data are equal."""
    monkeypatch.setattr(Noise, "add", lambda noise, values: values.copy())
    assert project.run(run_id="all").status == 0
    project.release["top"] = top
    assert project.run(run_id="top").status == 0
    return project.table(run_id="all").to_pylist(), project.table(run_id="top").to_pylist()


def test_the_largest_of_a_draw(asked, monkeypatch):
    """Exactly these rows, in the order of the keys, as many files as ever."""
    whole, top = of_one_draw(asked, {"by": "takings", "n": 5}, monkeypatch)
    largest = sorted(whole, key=lambda row: (-row["takings"], row["shop"]))[:5]
    assert [row["shop"] for row in top] == sorted(row["shop"] for row in largest)
    assert {row["shop"] for row in top} >= {"ash", "birch"}
    kept = {row["shop"]: row for row in whole}
    for row in top:
        assert row == {name: value for name, value in kept[row["shop"]].items() if name in row}
    assert len(asked.parts(run_id="top")) == 2


def test_what_decides_has_no_interval(asked):
    """Nor what shares its stage; all others have theirs."""
    asked.release["metrics"].append({"name": "spread", "stddev": "price", "clip": [0, 10]})
    asked.release["top"] = {"by": "average", "n": 3}
    assert asked.run().status == 0
    names = asked.table().column_names
    assert asked.table().num_rows == 3
    for metric, kept in (("visits", True), ("takings", False), ("average", False), ("spread", False)):
        assert metric in names
        assert (f"{metric}_low" in names, f"{metric}_high" in names) == (kept, kept)


def test_fewer_keys_than_asked_for(project):
    """All of them; none are none, with the same columns."""
    project.release["top"] = {"by": "visits", "n": 10}
    assert project.run().status == 0
    assert project.table().num_rows == 3
    project.config["budget"]["epsilon"] = 1e-3
    assert project.run(run_id="none").status == 0
    assert (project.table(run_id="none").num_rows, project.table(run_id="none").schema) == (0, project.table().schema)


@pytest.mark.parametrize(
    ("top", "says"),
    [
        ({"by": "nothing", "n": 3}, "which no metric makes"),
        ({"by": "visits_low", "n": 3}, "which no metric makes"),
        ({"by": "visits", "n": 0}, "top.n"),
        ({"by": "visits"}, "top.n"),
        ({"n": 3}, "top.by"),
    ],
)
def test_r11_a_wrong_top_is_refused(project, top, says):
    """One sentence, status 2."""
    project.release["top"] = top
    ended = project.run()
    assert (ended.status, says in ended.complaint) == (2, True), ended.complaint
