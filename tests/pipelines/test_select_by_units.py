"""A noisy count of units that selects the keys: one stage, published as it was compared, without an interval."""

import math

import numpy as np
import pytest

from privacy.noise import Noise
from privacy.plan import make_plan
from tests.privacy.exact import chance_that_any_passes
from tests.privacy.plans import budget, release

UNITS = [{"name": "visits", "count": "events"}, {"name": "people", "count": "units"}]


@pytest.mark.parametrize(("keys", "cap"), [(1, 1), (3, 5), (30, 1024), (90, 20)])
def test_s1_the_threshold_covers_units_with_few_and_many_keys(keys, cap):
    """Weights are those of the count; no key of one unit is shown, but with the stage's delta; the shares are of both."""
    planned = make_plan(budget(), [release(keys_per_unit=keys, select={"by": "units", "cap": cap}, metrics=UNITS)]).releases[0]
    stage = planned.selection
    assert stage is not None
    assert [each.name for each in planned.stages] == ["select+people", "visits"]
    assert stage.share == pytest.approx(2 / 3)
    one = 1 << -stage.grid.exponent
    for held in range(1, cap + 1):
        weight = int(stage.weights[held])
        assert weight <= one
        assert held * weight**2 <= stage.norm**2
        assert weight == pytest.approx(one * min(1, math.sqrt(keys / held)), rel=1e-6)
        assert float(chance_that_any_passes(held, weight, stage.threshold, stage.scale)) <= stage.delta


def test_what_is_compared_is_what_is_published(project, monkeypatch):
    """The same draw: each shown count is at or above the threshold, and without noise they are the exact ones."""
    drawn = []
    add = Noise.add

    def noted(noise, values):
        drawn.append(add(noise, values))
        return drawn[-1]

    monkeypatch.setattr(Noise, "add", noted)
    project.release["select"] = {"by": "units"}
    project.release["metrics"] = UNITS
    project.config["budget"]["epsilon"] = 5
    assert project.run().status == 0
    table = project.table()
    assert table.column_names == ["shop", "visits", "visits_low", "visits_high", "people"]
    (stage, _) = project.manifest()["plan"]["releases"]["by_shop"]
    assert stage["stage"] == "select+people"
    counts = {round(value * stage["grid"]) for noise in drawn for value in noise.tolist()}
    assert set(table["people"].to_pylist()) <= counts
    assert all(people >= math.floor(stage["threshold"]) for people in table["people"].to_pylist())
    monkeypatch.setattr(Noise, "add", lambda noise, values: values.copy())
    assert project.run(run_id="exact").status == 0
    shops = project.base["shop"].to_numpy(zero_copy_only=False)
    users = project.base["user"].to_numpy(zero_copy_only=False)
    exact = {str(shop): len(np.unique(users[shops == shop])) for shop in np.unique(shops)}
    assert {row["shop"]: row["people"] for row in project.table(run_id="exact").to_pylist()} == exact
