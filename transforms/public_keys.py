"""Public keys: listed in the config or in a file, published with and without data."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import InputError
from transforms.file_state import FileState


@dataclass(frozen=True)
class PublicKeys:
    """Either every combination of `values` (in their published types), or the rows of a file's columns."""

    columns: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    values: tuple[pa.Array, ...] | None
    file: str | None
    state: FileState | None = None

    def load(self) -> list[pa.Array]:
        """The key columns, in their published types, without nulls.

        Raises:
            InputError: the file cannot be read, or lists no key.
        """
        if self.values is not None:
            sizes = [len(listed) for listed in self.values]
            rows = np.unravel_index(np.arange(math.prod(sizes)), sizes)
            return [listed.take(pa.array(row)) for listed, row in zip(self.values, rows, strict=True)]
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
        if table.num_rows == 0 or any(column.null_count for column in columns):
            raise InputError(f"{self.file}: lists no key, or a null; list at least one key and no nulls")
        return columns
