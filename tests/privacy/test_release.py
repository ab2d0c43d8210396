"""privacy/release.py: which budgets, bounds and keys a release may declare."""

from typing import Any

import pytest
from pydantic import ValidationError

from privacy.release import Budget, Keys, Release, most_events
from tests.privacy.plans import release


@pytest.mark.parametrize("epsilon", [0, -1, float("nan"), float("inf"), "1e400", "much"])
def test_r11_epsilons_that_are_no_budget(epsilon: Any) -> None:
    """Not above 0, not finite, or no number."""
    with pytest.raises(ValidationError):
        Budget(epsilon=epsilon, delta=1e-6)


@pytest.mark.parametrize("delta", [1, -1e-9, 1.5, float("nan")])
def test_r11_deltas_that_are_no_probability(delta: float) -> None:
    """Below 0, 1 or above, or no number."""
    with pytest.raises(ValidationError):
        Budget(epsilon=1.0, delta=delta)


@pytest.mark.parametrize(("keys", "rows"), [(0, 1), (1, 0), (2**16 + 1, 1), (1, 10**6 + 1), (1.5, 1), (-1, 1)])
def test_s7_bounds_out_of_range(keys: Any, rows: Any) -> None:
    """Nothing, too much, or a fraction."""
    with pytest.raises(ValidationError):
        release(keys_per_unit=keys, rows_per_key=rows)


def test_s7_bounds_have_no_default() -> None:
    """A release without bounds is an error, as is one without metrics or keys."""
    whole = release(public=True).model_dump(by_alias=True, exclude_unset=True)
    assert Release.model_validate(whole)
    for part in ("metrics", "keys"):
        with pytest.raises(ValidationError):
            Release.model_validate({name: value for name, value in whole.items() if name != part})
    with pytest.raises(ValidationError):
        Release.model_validate(whole | {"metrics": []})
    with pytest.raises(ValidationError):
        Release.model_validate(whole | {"seed": 1})


@pytest.mark.parametrize("share", [0, -1, float("nan"), float("inf"), 1e-7, 1e7])
def test_shares_out_of_range(share: float) -> None:
    """Of releases, selections and metrics."""
    with pytest.raises(ValidationError):
        release(share=share)
    with pytest.raises(ValidationError):
        release(select={"share": share})
    with pytest.raises(ValidationError):
        release(metrics=[{"name": "m", "count": "units", "share": share}])


def test_public_keys_are_not_selected() -> None:
    """Listed in one place, all columns, each value once; and select makes no sense there."""
    assert Keys(columns=("k",), values={"k": ("a", "b")}).public
    assert Keys.model_validate({"columns": ["k"], "from": "keys.parquet"}).public
    assert not Keys(columns=("k",)).public
    for wrong in (
        {"columns": []},
        {"columns": ["k", "k"]},
        {"columns": ["k"], "values": {"k": ["a"]}, "from": "f"},
        {"columns": ["k"], "values": {"other": ["a"]}},
        {"columns": ["k", "l"], "values": {}},
        {"columns": ["k", "l"], "values": {"k": ["a"], "other": ["a"]}},
        {"columns": ["k"], "values": {"k": []}},
        {"columns": ["k"], "values": {"k": ["a", "a"]}},
    ):
        with pytest.raises(ValidationError):
            Keys.model_validate(wrong)
    with pytest.raises(ValidationError, match="remove select"):
        release(public=True, select={"share": 1})
    with pytest.raises(ValidationError):
        release(select={"cap": 2**16 + 1})
    with pytest.raises(ValidationError):
        release(select={"cap": 0})


def test_columns_without_listed_values_are_private() -> None:
    """Some columns may be listed and others not; up to 2^16 combinations, whatever they are of."""
    keys = Keys(columns=("k", "l", "m"), values={"l": ("a", "b")})
    assert (keys.private, keys.public) == (("k", "m"), False)
    assert Keys(columns=("k", "l"), values={"l": ("a",), "k": ("a",)}).private == ()
    assert Keys.model_validate({"columns": ["k", "l"], "from": "keys.parquet"}).private == ()
    assert Keys(columns=("k", "l")).private == ("k", "l")
    most = {"k": tuple(map(str, range(2**8))), "l": tuple(map(str, range(2**8)))}
    assert Keys(columns=("k", "l", "m"), values=most).private == ("m",)
    with pytest.raises(ValidationError, match="65,792 combinations, more than 65,536"):
        Keys(columns=("k", "l", "m"), values=most | {"k": (*most["k"], "x")})
    assert Keys(columns=("k", "l"), values=most | {"k": (*most["k"], "x")}).public
    keys = {"columns": ["k", "l", "m"], "values": most}
    assert release(keys=keys).selection.cap * 2**16 == 2**26
    with pytest.raises(ValidationError, match=r"select\.cap 1,025 times the 65,536 combinations of keys\.values is more"):
        release(keys=keys, select={"cap": 1025})


def test_no_two_output_columns_share_a_name() -> None:
    """Neither two metrics, nor a metric's interval and another metric, nor a metric and a key."""
    for names in (["a", "a"], ["a", "a_low"], ["a_high", "a"], ["k"]):
        with pytest.raises(ValidationError, match="two output columns"):
            release(metrics=[{"name": name, "count": "units"} for name in names])


def together(cap: int | None = None, public: bool = False) -> Release:
    """A release of pairs."""
    keys: dict[str, Any] = {"columns": ["a_1", "a_2"]}
    if public:
        keys["values"] = {"a_1": ["x"], "a_2": ["y"]}
    written: dict[str, Any] = {"name": "b", "pairs": {"of": "a", "within": "c"}, "keys": keys}
    written |= {"bounds": {"keys_per_unit": 3, "rows_per_key": 1}, "metrics": [{"name": "n", "count": "events"}]}
    return Release.model_validate(written | ({"select": {"cap": cap}} if cap else {}))


@pytest.mark.parametrize(("cap", "items"), [(1, 2), (2, 3), (3, 3), (4, 4), (100, 15), (1024, 46), (5000, 101), (2**16, 363)])
def test_the_fewest_items_that_make_as_many_pairs_as_a_unit_may_have(cap: int, items: int) -> None:
    made = together(cap)
    assert (made.most_pairs, made.most_items) == (cap, items)
    assert (items - 1) * (items - 2) // 2 < cap <= items * (items - 1) // 2


def test_pairs_that_are_looked_at_by_default() -> None:
    assert (together().most_pairs, together(public=True).most_pairs) == (1024, 2**16)


@pytest.mark.parametrize("caps", [(), (1024,), (1, 2**16), (2**16,) * 127])
def test_n5_pairs_and_events_of_a_run_take_at_most_2_to_the_40_blocks(caps: tuple[int, ...]) -> None:
    """256 for each event, and two for each pair; without pairs, the most events are 2^32."""
    releases = [together(cap) for cap in caps]
    most = most_events([release(), *releases])
    each = 256 + sum(2 * item.most_items * (item.most_items - 1) // 2 // item.most_items for item in releases)
    assert most * each <= 2**40 < (most + 1) * each
    assert most > 2**24
    assert most == 2**32 or releases
