"""How much one unit may add to a release: what the config says, and the norms that follow from it."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from privacy.fields import Count, Flag, Strict
from privacy.grid import Ints, root_up
from privacy.norms import limit_norms, limit_totals, weights_by_keys

_MOST_EVENTS = 2**28
"""The largest norm of a unit's events, each counting 1: a grid holds it and what rounding each of them may add."""


class Bounds(Strict):
    """How much one unit may add to a release."""

    keys_per_unit: Annotated[Count, Field(le=2**16)] = Field(description="keys in which one unit counts in full")
    rows_per_key: Annotated[Count, Field(le=10**6)] = Field(description="events of one unit that count in full in each key")
    rows_per_unit: Annotated[Count, Field(le=10**9)] | None = Field(
        None, description="events of one unit that count in full in all of its keys together"
    )
    by: Literal["scaling", "sampling"] | None = Field(
        None, description="how a unit over its bounds is cut down: all of it is scaled (where omitted), or a part is sampled"
    )
    down_weight: Flag | None = Field(
        None, description="whether each key is scaled down to rows_per_key first: helps where few keys hold most events"
    )
    noise: Literal["gaussian", "laplace", "auto"] | None = Field(
        None, description="gaussian where omitted; laplace needs no delta; auto is the one with the smaller standard deviation"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keys_per_unit * self.rows_per_key > _MOST_EVENTS and self.noise in ("laplace", "auto"):
            raise ValueError(
                f"keys_per_unit {self.keys_per_unit} times rows_per_key {self.rows_per_key} is too much for noise: {self.noise}; "
                f"lower one of them to at most {_MOST_EVENTS:,} together, or write noise: gaussian"
            )
        return self

    @property
    def unit(self) -> "UnitBounds":
        """The bounds with Gaussian noise, where the config does not say laplace."""
        return UnitBounds(
            keys_per_unit=self.keys_per_unit,
            rows_per_key=self.rows_per_key,
            rows_per_unit=self.rows_per_unit,
            order=1 if self.noise == "laplace" else 2,
            sampling=self.by == "sampling",
            down_weight=bool(self.down_weight),
        )


@dataclass(frozen=True, kw_only=True)
class UnitBounds:
    """The bounds of a vector, and the order of its norm: 2 for Gaussian noise, 1 for Laplace noise.

    Attributes:
        sampling: units over the bounds have been cut down to them by leaving out some of their events.
        down_weight: events of a key are scaled down to `rows_per_key` before the norm.

    A unit within the bounds has events in at most `keys_per_unit` keys, at most `rows_per_key` in each, and at most
    `rows_per_unit` in all. The norms are the largest of such a unit, so that it is left as it is.
    """

    keys_per_unit: int
    rows_per_key: int
    rows_per_unit: int | None = None
    order: int = 2
    sampling: bool = False
    down_weight: bool = False

    @property
    def _full(self) -> tuple[int, int]:
        """The keys that have `rows_per_key` events each, and the events in one more key, where the norm is largest."""
        if self.rows_per_unit is None or self.rows_per_unit >= self.keys_per_unit * self.rows_per_key:
            return self.keys_per_unit, 0
        return divmod(self.rows_per_unit, self.rows_per_key)

    @property
    def events(self) -> float:
        """The norm of events that count 1 each."""
        full, rest = self._full
        events = full * self.rows_per_key + rest
        return events if self.order == 1 else math.sqrt(full * self.rows_per_key**2 + rest**2)

    @property
    def keys(self) -> float:
        """The norm of keys that count 1 each."""
        keys = self._most_keys
        return keys if self.order == 1 else math.sqrt(keys)

    @property
    def _most_keys(self) -> int:
        return min(self.keys_per_unit, self.rows_per_unit or self.keys_per_unit)

    def events_norm(self, each: int) -> int:
        """The norm of events that bring at most `each` steps, rounded up to whole steps."""
        full, rest = self._full
        if self.order == 1:
            return (full * self.rows_per_key + rest) * each
        return root_up((full * self.rows_per_key**2 + rest**2) * each**2)

    def keys_norm(self, each: int) -> int:
        """The norm of keys that have at most `each` steps, rounded up to whole steps."""
        return self._most_keys * each if self.order == 1 else root_up(self._most_keys * each**2)

    def counted(self, events: Ints) -> Ints:
        """How many events of each key enter the norm."""
        return np.minimum(events, self.rows_per_key) if self.down_weight else events

    def limit(self, values: Ints, units: Ints, norm: int) -> Ints:
        """`limit_norms` or `limit_totals`, by the order."""
        return limit_totals(values, units, norm) if self.order == 1 else limit_norms(values, units, norm)

    def weights(self, each: int, norm: int, most: int) -> Ints:
        """`weights_by_keys` of the order."""
        return weights_by_keys(each, norm, most, self.order)
