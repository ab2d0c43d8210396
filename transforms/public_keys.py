"""Public keys: listed in the config or in a file, published with and without data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy.grid import Ints
from privacy.release import MOST_KEYS_OF_UNIT
from transforms.columns import places_among, readable_texts
from transforms.errors import InputError
from transforms.file_state import FileState
from transforms.normalise import normalise


@dataclass(frozen=True)
class Combinations:
    """Every combination of the listed values of some columns, numbered from 0.

    Attributes:
        values: of each column, each once, in the column's published type and in the events' form.
    """

    columns: tuple[str, ...]
    values: tuple[pa.Array, ...]

    def __len__(self) -> int:
        return math.prod(self._sizes)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(len(listed) for listed in self.values)

    def take(self, numbers: Ints) -> list[pa.Array]:
        """The columns of the combinations with these numbers."""
        rows = np.unravel_index(numbers, self._sizes)
        return [listed.take(pa.array(row)) for listed, row in zip(self.values, rows, strict=True)]

    def numbers(self, columns: Sequence[pa.Array]) -> Ints:
        """Which combination each row of these columns is, -1 for none. int64, shape (n,)."""
        places = np.stack([places_among(column, listed) for column, listed in zip(columns, self.values, strict=True)])
        numbers = np.ravel_multi_index(tuple(np.maximum(places, 0)), self._sizes)
        return np.where((places >= 0).all(axis=0), numbers, -1)


@dataclass(frozen=True)
class PublicKeys:
    """Either the combinations of listed values, or the rows of a file's columns.

    Attributes:
        nulls: whether a null in the file is a key like others.
        forms: of the file's columns of text, as `normalise` takes them.
        pairs: whether a key is an unordered pair: the smaller value comes first, and one of equal values is left out.
    """

    columns: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    values: Combinations | None
    file: str | None
    state: FileState | None = None
    nulls: bool = False
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: bool = False

    def load(self) -> list[pa.Array]:
        """The key columns, in their published types and in the events' forms.

        Raises:
            InputError: the file cannot be read, lists no key, or a null where null is no key.
        """
        listed = self._listed() if self.values is None else []
        keys = len(listed[0]) if self.values is None else len(self.values)
        if keys > MOST_KEYS_OF_UNIT:
            raise InputError(f"{self.file or 'keys.values'}: lists {keys:,} keys, more than {MOST_KEYS_OF_UNIT:,}; list fewer")
        columns = listed if self.values is None else self.values.take(np.arange(keys))
        if not self.nulls and any(column.null_count for column in columns):
            cure = "" if self.pairs else ", or write keys.nulls: keep"
            raise InputError(f"{self.file}: lists a null, or a text that is no UTF-8; list none{cure}")
        return self._in_order(*columns) if self.pairs else columns

    def _in_order(self, one: pa.Array, other: pa.Array) -> list[pa.Array]:
        different, greater = pc.not_equal(one, other), pc.greater(one, other)
        ordered = (pc.if_else(greater, other, one), pc.if_else(greater, one, other))
        columns = [column.filter(different) for column in ordered]
        if len(columns[0]) == 0:
            raise InputError(f"{self.file or 'keys.values'}: lists no pair of two different values; list at least one")
        return columns

    def _listed(self) -> list[pa.Array]:
        try:
            table = pq.read_table(self.file, columns=list(self.columns), use_threads=False)
            columns = [table[name].cast(kind).combine_chunks() for name, kind in zip(self.columns, self.types, strict=True)]
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(
                f"{self.file}: cannot be read as public keys ({type(error).__name__}); "
                f"it must be a Parquet file with the columns {', '.join(self.columns)}"
            ) from None
        if self.state is not None and self.file is not None:
            self.state.check(self.file)
        if table.num_rows == 0:
            raise InputError(f"{self.file}: lists no key; list at least one")
        return [
            normalise(readable_texts(column), self.forms.get(name, ())) if pa.types.is_string(column.type) else column
            for name, column in zip(self.columns, columns, strict=True)
        ]
