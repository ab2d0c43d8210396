"""A plain reference of design.md section 4: the sums below the noise, in Python integers, one row at a time.

It knows the config's tree as written, and nothing of transforms/ or of the arithmetic in privacy/.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

Row = Mapping[str, Any]
Key = tuple[Any, ...]


MOST_STEPS = 2**30


def grid_exponent(square: int, of_values: float | None = None) -> int:
    """The smallest e for which a norm has at most 2^30 steps of 2^e, with room for what rounding may add.

    Args:
        square: of the norm in events or keys, r^2 k or k. It may be rounded up by 2 steps.
        of_values: the largest value of an event, for sums: each may in addition be rounded up by half a step.
    """

    def fits(exponent: int) -> bool:
        each = 1 / Fraction(2) ** exponent if of_values is None else Fraction(of_values) / Fraction(2) ** exponent + 1
        return square * each**2 <= (MOST_STEPS - 2) ** 2

    exponent = 200
    while fits(exponent - 1):
        exponent -= 1
    return exponent


def steps(value: float, exponent: int) -> int:
    """A float rounded to the nearest step of 2^exponent, half to even."""
    return round(Fraction(value) / Fraction(2) ** exponent)


def root_up(square: int) -> int:
    """The smallest integer whose square is at least this one."""
    root = math.isqrt(square)
    return root if root * root == square else root + 1


def scaled(vector: Mapping[Key, int], norm: int) -> dict[Key, int]:
    """One unit's vector, cut down to a norm, toward zero, as privacy/norms.py defines it."""
    if sum(x * x for x in vector.values()) <= norm * norm:
        return dict(vector)
    room = (62 - len(vector).bit_length()) // 2
    drop = max(0, max(abs(x) for x in vector.values()).bit_length() - room)
    root = root_up(sum((abs(x) >> drop) ** 2 for x in vector.values()))
    return {key: (abs(x) >> drop) * norm // root * (1 if x > 0 else -1) for key, x in vector.items()}


def usable(value: Any) -> bool:
    """Whether a value counts: neither null nor NaN nor infinite."""
    return value is not None and math.isfinite(float(value))


def clipped(value: Any, clip: tuple[float, float]) -> float:
    """A usable value within the clip."""
    return min(max(float(value), clip[0]), clip[1])


@dataclass(frozen=True)
class Stage:
    """What one unit adds to its keys: `of` takes the unit's rows of each key. Equal `what` is one stage of a release."""

    name: str
    norm: int
    of: Callable[[Mapping[Key, list[Row]]], dict[Key, int]]
    what: tuple[Any, ...]


def count_stage(name: str, k: int, r: int, column: str | None = None) -> Stage:
    """Events of each key, or those with a usable value in a column."""
    exponent = grid_exponent(r * r * k)
    norm = root_up(r * r * k << -2 * exponent)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        return scaled({key: sum(map(counts, found)) << -exponent for key, found in rows.items()}, norm)

    def counts(row: Row) -> bool:
        return column is None or usable(row[column])

    return Stage(name, norm, of, ("count", column))


def even_stage(name: str, each: int, norm: int, what: str) -> Stage:
    """The same for each key of a unit: `each`, or what the norm allows."""

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        return dict.fromkeys(rows, min(each, math.isqrt(norm * norm // len(rows))))

    return Stage(name, norm, of, (what,))


def units_stage(name: str, k: int) -> Stage:
    """1 for each key of a unit."""
    exponent = grid_exponent(k)
    return even_stage(name, 1 << -exponent, root_up(k << -2 * exponent), "units")


def sum_stage(name: str, column: str, clip: tuple[float, float], k: int, r: int) -> Stage:
    """Sums of clipped values."""
    reach = max(abs(clip[0]), abs(clip[1]))
    exponent = grid_exponent(r * r * k, reach)
    norm = root_up(r * r * k * steps(reach, exponent) ** 2)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        return scaled(
            {
                key: sum(steps(clipped(x[column], clip), exponent) for x in found if usable(x[column]))
                for key, found in rows.items()
            },
            norm,
        )

    return Stage(name, norm, of, ("amounts", column, clip))


def let_in_stage(
    name: str, column: str, clip: tuple[float, float], k: int, r: int, largest: int, amount: Callable[[float], int]
) -> Stage:
    """Sums of an amount of each clipped value, at most `largest` steps, with the share of each that the counts let in."""
    counts = count_stage("", k, r, column)
    one = 1 << -grid_exponent(r * r * k)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        let_in = counts.of(rows)
        result = {}
        for key, found in rows.items():
            amounts = [amount(clipped(row[column], clip)) for row in found if usable(row[column])]
            total = sum(amounts)
            if let_in[key] != len(amounts) * one:
                mean = abs(total) // len(amounts)
                total = (1 if total > 0 else -1) * (mean * let_in[key] // one)
            result[key] = total
        return result

    norm = -(-largest * counts.norm // one)
    return Stage(name, norm, of, (name.rpartition(".")[2], column, clip))


def mean_stages(name: str, column: str, clip: tuple[float, float], k: int, r: int) -> list[Stage]:
    """Sums of clipped values less the middle; and the counts."""
    middle = clip[0] / 2 + clip[1] / 2
    exponent = grid_exponent(r * r * k, clip[1] / 2 - clip[0] / 2)
    largest = max(abs(steps(end - middle, exponent)) for end in clip)
    sums = let_in_stage(f"{name}.sum", column, clip, k, r, largest, lambda value: steps(value - middle, exponent))
    return [sums, count_stage(f"{name}.count", k, r, column)]


def spread_stages(name: str, column: str, clip: tuple[float, float], k: int, r: int) -> list[Stage]:
    """Sums of squared distances from the middle, exact until they are rounded, less half of the largest; then those of a mean."""
    middle, half = Fraction(clip[0] / 2 + clip[1] / 2), (Fraction(clip[1]) - Fraction(clip[0])) ** 2 / 8
    exponent = grid_exponent(r * r * k, float(half))

    def amount(value: float) -> int:
        # The middle is a float, so that a value may be a little further from it than half of the width.
        return round(min((Fraction(value) - middle) ** 2 - half, half) / Fraction(2) ** exponent)

    largest = amount(clip[1])
    return [let_in_stage(f"{name}.squares", column, clip, k, r, largest, amount), *mean_stages(name, column, clip, k, r)]


def stages_of(release: Mapping[str, Any]) -> list[Stage]:
    """The stages of a release as the config writes it, in the order of the plan."""
    k, r = release["bounds"]["keys_per_unit"], release["bounds"]["rows_per_key"]
    public = "values" in release["keys"] or "from" in release["keys"]
    stages = [] if public else [even_stage("select", 2**29, 2**29, "select")]
    kinds = ("mean", "variance", "stddev")
    centred = {(m[kind], tuple(m["clip"])) for m in release["metrics"] for kind in kinds if kind in m}
    for metric in release["metrics"]:
        name = metric["name"]
        if metric.get("count") == "units":
            stages.append(units_stage(name, k))
        elif metric.get("count") == "events":
            stages.append(count_stage(name, k, r))
        elif "sum" in metric:
            column, clip = metric["sum"], tuple(metric["clip"])
            if (column, clip) in centred:  # middle times the count, and the rest: both are drawn anyway
                stages += mean_stages(name, column, clip, k, r)[: 1 + (clip[0] != -clip[1])]
            else:
                stages.append(sum_stage(name, column, clip, k, r))
        elif "mean" in metric:
            stages += mean_stages(name, metric["mean"], tuple(metric["clip"]), k, r)
        else:
            stages += spread_stages(name, metric.get("variance") or metric["stddev"], tuple(metric["clip"]), k, r)
    return joined(stages)


def joined(stages: Iterable[Stage]) -> list[Stage]:
    """Each stage once, where the first of its like is, with the names of all."""
    found: dict[tuple[Any, ...], Stage] = {}
    for stage in stages:
        first = found.get(stage.what)
        found[stage.what] = replace(first, name=f"{first.name}+{stage.name}") if first else stage
    return list(found.values())


def rows_by_unit(
    rows: Iterable[Row], unit: Iterable[str], release: Mapping[str, Any], listed: set[Key] | None = None
) -> dict[Key, dict[Key, list[Row]]]:
    """The rows of each unit and key that count: no null, no empty id, and only the listed keys where they are public."""
    found: dict[Key, dict[Key, list[Row]]] = defaultdict(lambda: defaultdict(list))
    columns = release["keys"]["columns"]
    for row in rows:
        person, key = tuple(row[column] for column in unit), tuple(row[column] for column in columns)
        if any(part is None or part == "" for part in person) or None in key:
            continue
        if listed is None or key in listed:
            found[person][key].append(row)
    return found


def capped(rows: Mapping[Key, list[Row]], cap: int, rank: Callable[[Key], int]) -> dict[Key, list[Row]]:
    """The `cap` keys of a unit that rank lowest."""
    return {key: rows[key] for key in sorted(rows, key=rank)[:cap]}


def bounded_sums(
    rows: Iterable[Row],
    unit: Iterable[str],
    release: Mapping[str, Any],
    rank: Callable[[Key], int],
    listed: set[Key] | None = None,
) -> dict[Key, tuple[int, ...]]:
    """For each key that a unit has, the sum of each stage over all units."""
    stages = stages_of(release)
    sums: dict[Key, list[int]] = defaultdict(lambda: [0] * len(stages))
    cap = release.get("select", {}).get("cap", 1024)
    for keys in rows_by_unit(rows, unit, release, listed).values():
        kept = keys if listed is not None else capped(keys, cap, rank)
        for number, stage in enumerate(stages):
            added = stage.of(kept)
            if sum(x * x for x in added.values()) > stage.norm**2:
                raise AssertionError(f"the reference itself breaks the norm of {stage.name}")
            for key, amount in added.items():
                sums[key][number] += amount
    return {key: tuple(amounts) for key, amounts in sums.items()}
