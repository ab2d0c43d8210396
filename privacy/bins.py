"""How events are told apart within a key: by ranges of a value, or by categories. Both are declared, none follows from data."""

from dataclasses import dataclass

import numpy as np

from privacy.grid import Floats, Ints

NO_BIN = -1


@dataclass(frozen=True)
class Ranges:
    """Bin i holds the values from `edges[i]` up to, but not at, `edges[i + 1]`; values outside are in the bins at the ends."""

    column: str
    edges: tuple[float, ...]

    @property
    def count(self) -> int:
        return len(self.edges) - 1

    def of(self, values: Floats, usable: np.ndarray) -> Ints:
        """float64 (n,) and bool (n,) to int64 (n,), in 0..count - 1, or `NO_BIN` where a value is not usable."""
        inner = np.searchsorted(np.array(self.edges[1:-1]), np.where(usable, values, 0.0), side="right")
        return np.where(usable, inner, NO_BIN)


@dataclass(frozen=True)
class Categories:
    """Bin i holds the events whose column has `values[i]`, as it is written in the config. Other events are in none."""

    column: str
    values: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.values)


Bins = Ranges | Categories
