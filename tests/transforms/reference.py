"""A plain reference of design.md section 4: the sums below the noise, in Python integers, one row at a time.

It knows the config's tree as written, and nothing of transforms/ or of the arithmetic in privacy/.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

Row = Mapping[str, Any]
Key = tuple[Any, ...]


MOST_STEPS = 2**30


@dataclass(frozen=True)
class Limits:
    """The bounds of a release, as its config writes them. The order of norms is 1 with Laplace noise, else 2."""

    keys: int
    rows: int
    unit_rows: int | None = None
    order: int = 2
    sampling: bool = False
    down: bool = False

    @classmethod
    def of(cls, release: Mapping[str, Any]) -> "Limits":
        """Those of a release. What `noise: auto` chooses is not known here."""
        bounds = release["bounds"]
        return cls(
            keys=bounds["keys_per_unit"],
            rows=bounds["rows_per_key"],
            unit_rows=bounds.get("rows_per_unit"),
            order={"gaussian": 2, "laplace": 1}[bounds.get("noise", "gaussian")],
            sampling=bounds.get("by") == "sampling",
            down=bounds.get("down_weight", False),
        )

    @property
    def power(self) -> int:
        """The largest norm of the events of a unit within the bounds, to the power of the order."""
        full, rest = self.keys, 0
        if self.unit_rows is not None and self.unit_rows < self.keys * self.rows:
            full, rest = divmod(self.unit_rows, self.rows)
        return int(full * self.rows**self.order + rest**self.order)

    @property
    def keys_power(self) -> int:
        """The same of its keys, each counting 1."""
        return self.keys if self.unit_rows is None else min(self.keys, self.unit_rows)

    def norm(self, power: int) -> int:
        """The smallest norm with at least this power."""
        return power if self.order == 1 else root_up(power)

    def entering(self, events: int) -> int:
        """How many events of a key enter the norm."""
        return min(events, self.rows) if self.down else events

    def lighter(self, total: int, events: int) -> int:
        """The total of as many events of a key as enter the norm: of each the mean, toward zero."""
        if self.entering(events) == events:
            return total
        return (1 if total > 0 else -1) * (abs(total) // events * self.entering(events))


def finest(fits: Callable[[int], bool]) -> int:
    """The smallest exponent that fits."""
    exponent = 200
    while fits(exponent - 1):
        exponent -= 1
    return exponent


def grid_exponent(power: int, of_values: float | None = None, order: int = 2, room: int = 2) -> int:
    """The smallest e for which a norm has at most 2^30 steps of 2^e, with room for what rounding may add.

    Args:
        power: of the norm in events or keys, to the power of the order: r^2 k or k. The norm may be rounded up by `room` steps.
        of_values: the largest value of an event, for sums: each may in addition be rounded up by half a step.
    """

    def fits(exponent: int) -> bool:
        each = 1 / Fraction(2) ** exponent if of_values is None else Fraction(of_values) / Fraction(2) ** exponent + 1
        return power * each**order <= (MOST_STEPS - room) ** order

    return finest(fits)


def power_exponent(power: Fraction, order: int, room: int) -> int:
    """The same for a norm to the power of the order in units of the value, with room for so many steps."""
    return finest(lambda exponent: power <= ((MOST_STEPS - room) * Fraction(2) ** exponent) ** order)


def steps(value: float, exponent: int) -> int:
    """A float rounded to the nearest step of 2^exponent, half to even."""
    return round(Fraction(value) / Fraction(2) ** exponent)


def root_up(square: int) -> int:
    """The smallest integer whose square is at least this one."""
    root = math.isqrt(square)
    return root if root * root == square else root + 1


def scaled(vector: Mapping[Key, int], norm: int, order: int = 2) -> dict[Key, int]:
    """One unit's vector, cut down to a norm, toward zero, as privacy/norms.py defines it."""
    if sum(abs(x) ** order for x in vector.values()) <= norm**order:
        return dict(vector)
    bits = max(abs(x) for x in vector.values()).bit_length()
    if order == 1:
        drop = max(0, bits - 32, sum(abs(x) for x in vector.values()).bit_length() - 62)
        length = sum(abs(x) >> drop for x in vector.values())
    else:
        drop = max(0, bits - (62 - len(vector).bit_length()) // 2)
        length = root_up(sum((abs(x) >> drop) ** 2 for x in vector.values()))
    return {key: (abs(x) >> drop) * norm // length * (1 if x > 0 else -1) for key, x in vector.items()}


def usable(value: Any) -> bool:
    """Whether a value counts: neither null nor NaN nor infinite."""
    return value is not None and math.isfinite(float(value))


def clipped(value: Any, clip: tuple[float, float]) -> float:
    """A usable value within the clip."""
    return min(max(float(value), clip[0]), clip[1])


@dataclass(frozen=True)
class Tally:
    """What an event brings to a sum. Equal `what` is one tally of a release."""

    what: tuple[Any, ...]
    of: Callable[[Row], int] = field(compare=False)


EVENTS = Tally(("events",), lambda row: 1)


def values_tally(column: str) -> Tally:
    """1 of each event with a usable value."""
    return Tally(("values", column), lambda row: int(usable(row[column])))


def amounts_tally(column: str, clip: tuple[float, float], middle: float, exponent: int) -> Tally:
    """The clipped value less the middle, in steps."""

    def of(row: Row) -> int:
        return steps(clipped(row[column], clip) - middle, exponent) if usable(row[column]) else 0

    return Tally(("amounts", column, *clip, middle, exponent), of)


@dataclass(frozen=True)
class Stage:
    """What one unit adds to its keys: `of` takes the unit's rows of each key. Equal `what` is one stage of a release.

    Attributes:
        tallies: what of an event it needs.
        bin: of an event, where the stage counts in bins.
        levels: how many of the numbers that get noise one event changes.
    """

    name: str
    norm: int
    of: Callable[[Mapping[Key, list[Row]]], dict[Key, int]]
    what: tuple[Any, ...]
    tallies: tuple[Tally, ...] = ()
    bin: Callable[[Row], int | None] | None = None
    order: int = 2
    levels: int = 1


def count_stage(name: str, limits: Limits, column: str | None = None, given: float | None = None) -> Stage:
    """Events of each key, or those with a usable value in a column."""
    tally, order = EVENTS if column is None else values_tally(column), limits.order
    if given is None:
        exponent = grid_exponent(limits.power, order=order)
        norm = limits.norm(limits.power << -order * exponent)
    else:
        exponent = power_exponent(Fraction(given), 1, 2)
        norm = math.ceil(Fraction(given) / Fraction(2) ** exponent)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        return scaled({key: limits.entering(sum(map(tally.of, found))) << -exponent for key, found in rows.items()}, norm, order)

    return Stage(name, norm, of, ("count", column, given), (tally,), order=order)


def even_stage(name: str, each: int, norm: int, what: str, order: int = 2) -> Stage:
    """The same for each key of a unit: `each`, or what the norm allows."""

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        return dict.fromkeys(rows, min(each, norm // len(rows) if order == 1 else math.isqrt(norm * norm // len(rows))))

    return Stage(name, norm, of, (what,), order=order)


def units_stage(name: str, limits: Limits) -> Stage:
    """1 for each key of a unit, or of those of which an event was sampled."""
    exponent = grid_exponent(limits.keys_power, order=limits.order)
    one, norm = 1 << -exponent, limits.norm(limits.keys_power << -limits.order * exponent)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        return scaled({key: one if found else 0 for key, found in rows.items()}, norm, limits.order)

    if limits.sampling:
        return Stage(name, norm, of, ("units",), (EVENTS,), order=limits.order)
    return even_stage(name, one, norm, "units", limits.order)


def sum_stage(
    name: str,
    column: str,
    clip: tuple[float, float],
    limits: Limits,
    total: tuple[float, float] | None = None,
    given: float | None = None,
) -> Stage:
    """Sums of clipped values, clipped again where `total` says so."""
    order, reach = limits.order, max(abs(clip[0]), abs(clip[1]))
    room = limits.norm(limits.power) + 4
    reach_total = 0.0 if total is None else max(abs(total[0]), abs(total[1]))
    if given is not None:
        exponent = power_exponent(Fraction(given), 1, room)
        norm = math.ceil(Fraction(given) / Fraction(2) ** exponent)
    elif total is not None:
        powers = limits.power * Fraction(reach) ** order, limits.keys_power * Fraction(reach_total) ** order
        exponent = power_exponent(min(powers), order, room)
        both = limits.power * steps(reach, exponent) ** order, limits.keys_power * steps(reach_total, exponent) ** order
        norm = limits.norm(min(both))
    else:
        exponent = grid_exponent(limits.power, reach, order)
        norm = limits.norm(limits.power * steps(reach, exponent) ** order)
    tally, counted = amounts_tally(column, clip, 0.0, exponent), values_tally(column)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        sums = {key: limits.lighter(sum(map(tally.of, x)), sum(map(counted.of, x))) for key, x in rows.items()}
        if total is not None:
            low, high = (steps(end, exponent) for end in total)
            sums = {key: min(max(x, low), high) for key, x in sums.items()}
        return scaled(sums, norm, order)

    return Stage(name, norm, of, ("amounts", column, clip, total, given), (tally, counted)[: 1 + limits.down], order=order)


def joint_stage(name: str, columns: Sequence[str], given: float, limits: Limits) -> Stage:
    """Sums of several columns, limited together. Of each key there are as many numbers; one is called like its key."""
    exponent = power_exponent(Fraction(given), 1, 2)
    norm = math.ceil(Fraction(given) / Fraction(2) ** exponent)
    tallies = [amounts_tally(column, (-given, given), 0.0, exponent) for column in columns]
    counted = [values_tally(column) for column in columns]

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        return scaled(
            {
                (*key, *([place] if len(columns) > 1 else [])): limits.lighter(
                    sum(map(tally.of, found)), sum(map(count.of, found))
                )
                for key, found in rows.items()
                for place, (tally, count) in enumerate(zip(tallies, counted, strict=True))
            },
            norm,
            limits.order,
        )

    needed = (*tallies, *counted) if limits.down else tuple(tallies)
    return Stage(name, norm, of, ("joint", *columns, given), needed, order=limits.order)


def let_in_stage(name: str, column: str, clip: tuple[float, float], limits: Limits, largest: int, amount: Tally) -> Stage:
    """Sums of an amount of each clipped value, at most `largest` steps, with the share of each that the counts let in."""
    counts = count_stage("", limits, column)
    one = 1 << -grid_exponent(limits.power, order=limits.order)
    counted = values_tally(column)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        let_in = counts.of(rows)
        result = {}
        for key, found in rows.items():
            events, total = sum(map(counted.of, found)), sum(map(amount.of, found))
            if let_in[key] != events * one:
                mean = abs(total) // events
                total = (1 if total > 0 else -1) * (mean * let_in[key] // one)
            result[key] = total
        return result

    norm = -(-largest * counts.norm // one)
    what = (name.rpartition(".")[2], column, clip)
    return Stage(name, norm, of, what, (amount, counted), order=limits.order)


def mean_stages(name: str, column: str, clip: tuple[float, float], limits: Limits) -> list[Stage]:
    """Sums of clipped values less the middle; and the counts."""
    middle = clip[0] / 2 + clip[1] / 2
    exponent = grid_exponent(limits.power, clip[1] / 2 - clip[0] / 2, limits.order)
    largest = max(abs(steps(end - middle, exponent)) for end in clip)
    sums = let_in_stage(f"{name}.sum", column, clip, limits, largest, amounts_tally(column, clip, middle, exponent))
    return [sums, count_stage(f"{name}.count", limits, column)]


def spread_stages(name: str, column: str, clip: tuple[float, float], limits: Limits) -> list[Stage]:
    """Sums of squared distances from the middle, exact until they are rounded, less half of the largest; then those of a mean."""
    middle, half = Fraction(clip[0] / 2 + clip[1] / 2), (Fraction(clip[1]) - Fraction(clip[0])) ** 2 / 8
    exponent = grid_exponent(limits.power, float(half), limits.order)

    def amount(value: float) -> int:
        # The middle is a float, so that a value may be a little further from it than half of the width.
        return round(min((Fraction(value) - middle) ** 2 - half, half) / Fraction(2) ** exponent)

    squares = Tally(
        ("squares", column, *clip, exponent), lambda row: amount(clipped(row[column], clip)) if usable(row[column]) else 0
    )
    return [
        let_in_stage(f"{name}.squares", column, clip, limits, amount(clip[1]), squares),
        *mean_stages(name, column, clip, limits),
    ]


def bin_stage(name: str, declared: Mapping[str, Any], limits: Limits) -> Stage:
    """Events of each key and bin: those of a key have, in all, what a count of them lets in.

    Args:
        declared: the metric's histogram, frequency or quantiles. A tree has 256 bins; the nodes above are not among them.
    """
    order, levels = limits.order, 2 if "at" in declared else 1
    exponent = grid_exponent(levels * limits.power, order=order, room=1 + levels)
    counts_norm = limits.norm(limits.power << -order * exponent)
    found_bin = bin_of(declared)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        cells: dict[Key, Counter[int]] = {}
        for key, found in rows.items():
            bins = Counter(number for row in found if (number := found_bin(row)) is not None)
            if bins:
                cells[key] = bins
        counted = scaled({key: limits.entering(bins.total()) << -exponent for key, bins in cells.items()}, counts_norm, order)
        return {
            (*key, number): count * counted[key] // bins.total() for key, bins in cells.items() for number, count in bins.items()
        }

    norm = limits.norm(levels * counts_norm**order)
    return Stage(name, norm, of, ("bins", repr(declared)), bin=found_bin, order=order, levels=levels)


def bin_of(declared: Mapping[str, Any]) -> Callable[[Row], int | None]:
    """The bin of a row, counted from 0; None where it is in none."""
    column = declared["of"]
    if "values" in declared:
        texts = [str(value) for value in declared["values"]]
        return lambda row: texts.index(str(row[column])) if str(row[column]) in texts and row[column] is not None else None
    if "at" in declared:
        low, high = map(float, declared["clip"])
        inner = [low + number * ((high - low) / 256) for number in range(1, 256)]
    else:
        inner = declared["bins"][1:-1]
    return lambda row: sum(float(row[column]) >= edge for edge in inner) if usable(row[column]) else None


def stages_of(release: Mapping[str, Any]) -> list[Stage]:
    """The stages of a release as the config writes it, in the order of the plan."""
    limits = Limits.of(release)
    public = "values" in release["keys"] or "from" in release["keys"]
    stages = [] if public else [even_stage("select", 2**29, 2**29, "select")]
    for metric in release["metrics"]:
        stages += metric_stages(metric, release["metrics"], limits)
    return joined(stages)


def metric_stages(metric: Mapping[str, Any], beside: Iterable[Mapping[str, Any]], limits: Limits) -> list[Stage]:
    """The stages of a metric next to others."""
    name, clip = metric["name"], tuple(metric.get("clip", ()))
    if metric.get("count") == "units":
        return [units_stage(name, limits)]
    if "count" in metric:
        return [count_stage(name, limits, None, metric.get("norm"))]
    if "sum" in metric:
        column, total, given = metric["sum"], metric.get("clip_total"), metric.get("norm")
        of_means = [(m[kind], tuple(m["clip"])) for m in beside for kind in ("mean", "variance", "stddev") if kind in m]
        if (column, clip) in of_means and total is given is None and limits.order == 2:
            # Middle times the count, and the rest: both are drawn anyway, and with Gaussian noise no worse than by itself.
            return mean_stages(name, column, clip, limits)[: 1 + (clip[0] != -clip[1])]
        return [sum_stage(name, column, clip, limits, None if total is None else tuple(total), given)]
    if "mean" in metric:
        return mean_stages(name, metric["mean"], clip, limits)
    if "vector_sum" in metric:
        return [joint_stage(name, metric["vector_sum"], metric["norm"], limits)]
    bins = [metric[kind] for kind in ("histogram", "frequency", "quantiles") if kind in metric]
    if bins:
        return [bin_stage(name, bins[0], limits)]
    return spread_stages(name, metric.get("variance") or metric["stddev"], clip, limits)


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
            if sum(abs(x) ** stage.order for x in added.values()) > stage.norm**stage.order:
                raise AssertionError(f"the reference itself breaks the norm of {stage.name}")
            for key, amount in added.items():
                sums[key][number] += amount
    return {key: tuple(amounts) for key, amounts in sums.items()}


def splitmix(*numbers: int) -> int:
    """64 bits of a row of integers: each is mixed in by the finalizer of SplitMix (Steele, Lea and Flood 2014)."""
    word = 0
    for number in numbers:
        word = ((word ^ number % 2**64) + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        word ^= word >> 31
    return word


def sampled(
    rows: Mapping[Key, list[Row]],
    unit: int,
    key_ids: Callable[[Key], int],
    contents: Sequence[Callable[[Row], int]],
    limits: Limits,
) -> dict[Key, list[Row]]:
    """The events of a unit that are kept: in each key those with the smallest hashes, of these the keys with the smallest
    hashes, and of what is left as many as a unit may have. Keys without any stay.

    Args:
        unit: its id.
        contents: the integers of an event that matter.
    """
    low = unit % 2**64
    words: list[tuple[int, Key, Row]] = []
    chosen = sorted(rows, key=lambda key: splitmix(low, key_ids(key) % 2**64))[: limits.keys]
    for key in chosen:
        seen: Counter[tuple[int, ...]] = Counter()
        mine = []
        for row in rows[key]:
            content = tuple(of(row) for of in contents)
            mine.append((splitmix(low, key_ids(key) % 2**64, *content, seen[content]), key, row))
            seen[content] += 1
        words += sorted(mine, key=lambda one: one[0])[: limits.rows]
    kept: dict[Key, list[Row]] = {key: [] for key in rows}
    for _, key, row in sorted(words, key=lambda one: one[0])[: limits.unit_rows]:
        kept[key].append(row)
    return kept


def bounded_cells(
    rows: Iterable[Row],
    unit: Iterable[str],
    release: Mapping[str, Any],
    key_ids: Callable[[Key], int],
    unit_ids: Callable[[Key], int],
    listed: set[Key] | None = None,
) -> dict[str, dict[Key, int]]:
    """For each stage the sums over all units by key, or by key and bin or column. Those that are 0 are left out."""
    stages, limits = stages_of(release), Limits.of(release)
    tallies = dict.fromkeys(tally for stage in stages for tally in stage.tallies)
    bins = [stage.bin for stage in stages if stage.bin is not None]
    contents = [tally.of for tally in tallies] + [lambda row, of=of: -1 if of(row) is None else of(row) for of in bins]
    sums: dict[str, Counter[Key]] = {stage.name: Counter() for stage in stages}
    cap = release.get("select", {}).get("cap", 1024)
    for person, keys in rows_by_unit(rows, unit, release, listed).items():
        kept = keys if listed is not None else capped(keys, cap, key_ids)
        if limits.sampling:
            kept = sampled(kept, unit_ids(person), key_ids, contents, limits)
        for stage in stages:
            added = stage.of(kept)
            if stage.levels * sum(abs(x) ** stage.order for x in added.values()) > stage.norm**stage.order:
                raise AssertionError(f"the reference itself breaks the norm of {stage.name}")
            sums[stage.name].update(added)
    return {name: {cell: total for cell, total in cells.items() if total} for name, cells in sums.items()}
