"""What a release declares: its keys, bounds, selection, metrics and budget. The privacy part of the config."""

import math
from collections.abc import Sequence
from itertools import count
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from privacy.bounds import Bounds, UnitBounds
from privacy.fields import Column, Columns_, Count, Name, Number, Share, Strict, Text
from privacy.metrics import AnyMetric
from privacy.metrics.base import Part
from privacy.metrics.count import CountMetric
from privacy.selection import MOST_KEYS
from privacy.tallies import MOST_EVENTS

MOST_COMBINATIONS = 2**16
"""Of the listed values of keys that are partly public: their numbers have 16 bits."""

MOST_KEYS_OF_UNIT = 2**26
"""Public or partly public keys that one unit may have: up to it, no sum over the keys and columns of a unit leaves int64."""

PARTITION = "run"
"""The column that readers of the published folders see beside those of the release."""


class Budget(Strict):
    """What the whole run may spend."""

    epsilon: Annotated[Number, Field(gt=0, le=1e15, allow_inf_nan=False)] = Field(
        description="smaller is more private and less accurate"
    )
    delta: Annotated[Number, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        description="how improbable it is that epsilon fails; well below 1 / number of units; 0 for Laplace noise on public keys"
    )


class Select(Strict):
    """How private keys are selected: the share of the budget, and the cap on the keys of one unit that are looked at."""

    share: Share = Field(1.0, description="weight of the selection within the release")
    cap: Annotated[Count, Field(le=MOST_KEYS)] = Field(1024, description="keys of one unit that are looked at")
    by: Literal["weights", "units"] | None = Field(
        None,
        description="what is compared with the threshold: weights (where omitted), or the noisy count of units that is published",
    )


class Keys(Strict):
    """The key columns: private ones are selected by DP; with `values` or `from`, exactly the listed keys are published."""

    columns: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(description="one row is published per value of these")
    values: Annotated[dict[Column, Annotated[tuple[Text, ...], Field(min_length=1)]] | None, Field(min_length=1)] = Field(
        None, description="public columns: all combinations of these are published; columns that are left out are private"
    )
    file: Annotated[str | None, Field(alias="from", min_length=1)] = Field(
        None, description="public keys: exactly the rows of this Parquet file are published"
    )
    nulls: Literal["drop", "keep"] | None = Field(
        None, description="events without a key are left out, or null is a key; as events.nulls.key where omitted"
    )

    @property
    def private(self) -> tuple[str, ...]:
        """The columns of which it is selected what is published."""
        if self.file is not None:
            return ()
        return tuple(column for column in self.columns if column not in (self.values or ()))

    @property
    def public(self) -> bool:
        """Whether all columns are, so that nothing is selected."""
        return not self.private

    @property
    def combinations(self) -> int:
        """Of the listed values; 1 where there are none."""
        return math.prod(len(listed) for listed in (self.values or {}).values())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns {list(self.columns)} repeat a column; name each once")
        if self.values is not None and self.file is not None:
            raise ValueError("values and from are both given; list the public keys in one of them")
        if self.values is not None:
            if not set(self.values) <= set(self.columns):
                raise ValueError(f"values lists {sorted(self.values)}; list values of key columns only: {list(self.columns)}")
            for column, listed in self.values.items():
                if len(set(listed)) < len(listed):
                    raise ValueError(f"values.{column} repeats a value; list each once")
            if self.private and self.combinations > MOST_COMBINATIONS:
                raise ValueError(f"values has {self.combinations:,} combinations, more than {MOST_COMBINATIONS:,}; list fewer")
            if self.nulls == "keep" and self.public:
                raise ValueError("nulls is keep, but values can list no null; list the keys in a file (from), or remove nulls")
        return self


class Pairs(Strict):
    """The events of a release are pairs: of two different values of a column that a unit has in one basket.

    Guarantee: they are a function of the unit's own events. Source: docs/guarantee.md, "Pairs".
    """

    of: Column = Field(description="the column whose values are paired")
    within: Columns_ = Field(description="what makes a basket within a unit: a column, or a list of columns")

    @property
    def columns(self) -> tuple[str, str]:
        """The key columns that it makes; the smaller value of a pair is in the first."""
        return f"{self.of}_1", f"{self.of}_2"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.within)) < len(self.within):
            raise ValueError(f"within {list(self.within)} repeats a column; name each once")
        if self.of in self.within:
            raise ValueError(f"of is {self.of!r}, which within names too, so a basket has one value; name another column")
        return self


class Top(Strict):
    """Only the keys with the largest noisy values are published."""

    by: Name = Field(description="a published column")
    n: Annotated[Count, Field(le=10**6)] = Field(description="how many keys; all where there are fewer")


class Release(Strict):
    """One output table."""

    name: Name = Field(description="of the published table")
    share: Share = Field(1.0, description="weight among the releases")
    pairs: Pairs | None = Field(None, description="count pairs of values that occur together, instead of events")
    keys: Keys
    bounds: Bounds | None = None
    select: Select | None = None
    metrics: Annotated[tuple[AnyMetric, ...], Field(min_length=1)] = Field(description="the published columns")
    top: Top | None = Field(None, description="publish only the keys with the largest values of a column")

    @property
    def selection(self) -> Select | None:
        """How keys, or the private parts of keys, are selected; None where keys are public."""
        return None if self.keys.public else self.select or Select()

    def parts(self, bounds: Sequence[UnitBounds]) -> tuple[tuple[Part, ...], ...]:
        """The parts of each metric under its bounds: those of other metrics where they serve as well."""
        own = [metric.parts(each) for metric, each in zip(self.metrics, bounds, strict=True)]
        several = {part.vector for parts in own if len(parts) > 1 for part in parts}
        return tuple(
            metric.shared_parts(each, several) or parts for metric, each, parts in zip(self.metrics, bounds, own, strict=True)
        )

    @property
    def event_columns(self) -> tuple[str, ...]:
        """The columns of the events that its keys are made of."""
        return self.keys.columns if self.pairs is None else (self.pairs.of, *self.pairs.within)

    @property
    def most_pairs(self) -> int:
        """How many pairs of one unit are looked at."""
        return self.selection.cap if self.selection else MOST_KEYS

    @property
    def most_items(self) -> int:
        """How many values of one basket are paired: the fewest that make `most_pairs`."""
        return next(items for items in count(2) if items * (items - 1) >= 2 * self.most_pairs)

    @property
    def selecting(self) -> CountMetric | None:
        """The count of units that selects the keys; None where weights do, or nothing."""
        if self.selection is None or self.selection.by != "units":
            return None
        return next((metric for metric in self.metrics if isinstance(metric, CountMetric) and metric.count == "units"), None)

    @property
    def without_interval(self) -> tuple[str, ...]:
        """The columns whose intervals are not published: `top`, and a count that selects, let in what its own noise made large.

        Those of the metrics that have a vector in common with the one that decides.
        """
        deciding_names = {name for name in (self.top and self.top.by, self.selecting and self.selecting.name) if name}
        if not deciding_names:
            return ()
        bounds = UnitBounds(keys_per_unit=1, rows_per_key=1)
        metric_parts = zip(self.metrics, self.parts([bounds] * len(self.metrics)), strict=True)
        vectors = {metric.name: {part.vector for part in parts} for metric, parts in metric_parts}
        deciding = {part for metric in self.metrics if deciding_names & set(metric.names) for part in vectors[metric.name]}
        return tuple(name for metric in self.metrics if deciding & vectors[metric.name] for name in metric.names)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keys.public and self.select is not None:
            raise ValueError("select is given, but the keys are public and not selected; remove select")
        if self.selection is not None and self.selection.by == "units":
            self._check_selecting()
        if self.pairs is not None:
            self._check_pairs(self.pairs)
        if self.selection is not None and self.selection.cap * self.keys.combinations > MOST_KEYS_OF_UNIT:
            raise ValueError(
                f"select.cap {self.selection.cap:,} times the {self.keys.combinations:,} combinations of keys.values is more "
                f"than {MOST_KEYS_OF_UNIT:,}; lower one of them"
            )
        # Readers such as DuckDB and BigQuery do not tell columns apart by case.
        taken = {PARTITION: "the partition column run"}
        named = [(column, f"key column {column!r}") for column in self.keys.columns]
        named += [
            (column, f"metric {metric.name!r}")
            for metric in self.metrics
            for name in metric.names
            for column in (name, f"{name}_low", f"{name}_high")
        ]
        for column, maker in named:
            other = taken.setdefault(column.lower(), maker)
            if other is not maker:
                raise ValueError(f"two output columns are called {column!r}, of {other} and of {maker}; rename one")
        metrics = [metric.name for metric in self.metrics]
        twice = next((name for number, name in enumerate(metrics) if name in metrics[:number]), None)
        if twice is not None:
            raise ValueError(f"two metrics are called {twice!r}; rename one")
        columns = [name for metric in self.metrics for name in metric.names]
        if self.top is not None and self.top.by not in columns:
            raise ValueError(f"top.by is {self.top.by!r}, which no metric makes; write one of {', '.join(columns)}")
        return self

    def _check_pairs(self, pairs: Pairs) -> None:
        if self.keys.columns != pairs.columns:
            raise ValueError(
                f"keys.columns are {list(self.keys.columns)}, but pairs makes the columns {list(pairs.columns)}; write those"
            )
        if self.keys.values is not None and not self.keys.public:
            raise ValueError("keys.values lists one column of a pair only, but a pair has no order; list both columns, or none")
        if self.keys.nulls == "keep":
            raise ValueError("keys.nulls is keep, but no pair has a null; remove nulls")
        if self.bounds is not None and self.bounds.by == "sampling":
            raise ValueError("bounds.by is sampling, but a unit with many pairs can only be scaled; remove by")
        for number, metric in enumerate(self.metrics):
            if not isinstance(metric, CountMetric):
                raise ValueError(
                    f"metrics[{number}] has {metric.kind}, but a pair has no value; write count: events or count: units"
                )

    def _check_selecting(self) -> None:
        if self.selecting is None:
            raise ValueError("select.by is units, but no metric counts them; add {name: customers, count: units}")
        if self.keys.values is not None:
            raise ValueError(
                "select.by is units, which counts the units of whole keys, but keys.values makes parts of them public; remove "
                "select.by"
            )
        if self.bounds is not None and (self.bounds.by == "sampling" or self.bounds.noise is not None):
            raise ValueError(
                "select.by is units, which needs units that are scaled and Gaussian noise; remove bounds.by and bounds.noise, or "
                "select.by"
            )


def most_events(releases: Sequence[Release]) -> int:
    """How many events a run may read: `MOST_EVENTS`, or fewer where these releases make pairs of them.

    Source: docs/guarantee.md, "Pairs".
    """
    blocks = sum(release.most_items - 1 for release in releases if release.pairs)
    return 2**40 // (2**40 // MOST_EVENTS + blocks)
