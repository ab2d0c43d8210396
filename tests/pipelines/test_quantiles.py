"""Whole runs with quantiles: their columns, and that they are NumPy's to a leaf of the clip where noise is small."""

import numpy as np
import pyarrow as pa
import pytest

LEAF = 10 / 256
"""How far an interval's end may be off by the least noise, where exactly half of the values lie below an edge of leaves."""


@pytest.fixture
def asked(project):
    """Three shops, one metric; the clip is 0 to 10."""
    quantiles = {"of": "price", "at": [0.1, 0.5, 0.99], "clip": [0, 10]}
    project.release["metrics"] = [{"name": "q", "quantiles": quantiles}, {"name": "visits", "count": "events"}]
    project.config["budget"]["epsilon"] = 1e7
    return project


def test_quantiles_of_a_run_are_those_of_numpy(asked):
    """Skewed prices of 60 units, each with 4 in each shop."""
    rng = np.random.default_rng(9)
    prices = np.round(np.minimum(rng.gamma(2, 1.5, 720), 10), 2)
    asked.write_events(asked.base.set_column(2, "price", pa.array(prices)))
    assert asked.run().status == 0
    table = asked.table()
    names = [f"q_{at}{end}" for at in ("p10", "p50", "p99") for end in ("", "_low", "_high")]
    assert table.column_names == ["shop", *names, "visits", "visits_low", "visits_high"]
    shops = asked.base["shop"].to_numpy(zero_copy_only=False)
    for row in table.to_pylist():
        bought = prices[shops == row["shop"]]
        for name, at in (("q_p10", 0.1), ("q_p50", 0.5), ("q_p99", 0.99)):
            exact = float(np.quantile(bought, at, method="inverted_cdf"))
            assert abs(row[name] - exact) < 0.1, (row["shop"], name)
            assert row[f"{name}_low"] - LEAF <= exact <= row[f"{name}_high"] + LEAF
            assert row[f"{name}_high"] - row[f"{name}_low"] < 1


def test_s2_public_keys_without_data_have_quantiles_of_noise(asked):
    """Within the clip, and of noise: each alone is the middle of the clip in half of draws, 40 of them in 1e-12 of draws."""
    nowhere = [f"nowhere{number:02d}" for number in range(40)]
    asked.release["keys"]["values"] = {"shop": ["ash", *nowhere]}
    asked.config["budget"]["epsilon"] = 1
    assert asked.run().status == 0
    rows = {row["shop"]: row for row in asked.table().to_pylist()}
    assert list(rows) == ["ash", *nowhere]
    assert all(0 <= row["q_p50_low"] <= row["q_p50"] <= row["q_p50_high"] <= 10 for row in rows.values())
    assert len({rows[shop]["q_p50"] for shop in nowhere}) > 1


def test_the_plan_names_the_tree(asked):
    """One stage, whose bound is the root of two levels times that of a count."""
    assert asked.run().status == 0
    stages = {stage["stage"]: stage for stage in asked.manifest()["plan"]["releases"]["by_shop"]}
    assert stages["q"]["bound"] == pytest.approx(stages["visits"]["bound"] * 2**0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at": [1.5]}, "at[0]"),
        ({"at": [0.5, 0.5]}, "repeats a quantile"),
        ({"clip": [5, 1]}, "is reversed"),
        ({"of": "shop"}, "not a number"),
        ({"of": "nowhere"}, "nowhere"),
    ],
)
def test_r11_wrong_quantiles_are_refused(asked, change, says):
    """One sentence, before anything is charged."""
    asked.release["metrics"][0]["quantiles"] |= change
    ended = asked.run()
    assert ended.status in (2, 4)
    assert says in ended.complaint
    assert len(ended.complaint.splitlines()) == 1
    asked.assert_nothing_published()
