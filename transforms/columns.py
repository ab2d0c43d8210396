"""Canonical columns: one form per type for ids and keys, float64 for values."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.grid import Floats, Ints
from privacy.ids import Ids

_INTEGERS = (pa.types.is_integer, pa.types.is_boolean)
_NUMBERS = (*_INTEGERS, pa.types.is_floating, pa.types.is_decimal)


def key_type(kind: pa.DataType) -> pa.DataType | None:
    """The published type of a key or unit column of this type; None where its values cannot be told apart safely."""
    if pa.types.is_dictionary(kind):
        return key_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_decimal(kind) and kind.bit_width <= 128:
        return pa.decimal128(kind.precision, kind.scale)
    if any(matches(kind) for matches in _INTEGERS):
        return kind
    return None


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type can be summed."""
    return any(matches(kind) for matches in _NUMBERS)


def is_integer(kind: pa.DataType) -> bool:
    """Whether sums of values of this type are integers."""
    return any(matches(kind) for matches in _INTEGERS)


def as_key(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column in its published type. Whatever cannot be converted is null."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.floor_temporal(column, unit="microsecond")
    return column if column.type == kind else pc.cast(column, kind, safe=False)


def as_id_words(column: pa.Array) -> pa.Array:
    """A column in its published type, as `make_ids` takes it."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_decimal128(kind) or kind == pa.int64():
        return column
    if pa.types.is_timestamp(kind):
        return column.view(pa.int64())
    if pa.types.is_date32(kind):
        return column.view(pa.int32()).cast(pa.int64())
    if pa.types.is_uint64(kind):
        return column.view(pa.int64())
    return column.cast(pa.int64())


def usable_values(column: pa.Array, *, zero: bool = False) -> tuple[Floats, NDArray[np.bool_]]:
    """The values as float64, shape (n,), and which of them are usable: neither null nor NaN nor infinite.

    Args:
        zero: whether those that are not become 0, which is usable.
    """
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values = pc.fill_null(pc.cast(column, pa.float64(), safe=False), float("nan")).to_numpy(zero_copy_only=False)
    usable = np.isfinite(values)
    return (np.where(usable, values, 0.0), np.ones_like(usable)) if zero else (values, usable)


def places_among(column: pa.Array, listed: pa.Array) -> Ints:
    """Where each value stands in a list that holds each once, and no null; -1 where it does not. int64, shape (n,)."""
    places: Ints = pc.fill_null(pc.index_in(column, listed), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return places


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table that fits into one batch as that batch, also without rows."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def is_given(column: pa.Array) -> pa.Array:
    """Which ids are neither null nor empty. bool."""
    given = pc.is_valid(column)
    if pa.types.is_string(column.type):
        given = pc.and_(given, pc.fill_null(pc.not_equal(column, ""), False))
    return given


def decodable(texts: pa.Array) -> NDArray[np.bool_]:
    """Which binary values are UTF-8. bool, shape (n,)."""
    try:
        texts.cast(pa.string())
    except pa.ArrowInvalid:
        return _decodable(texts)
    return np.ones(len(texts), np.bool_)


def _decodable(texts: pa.Array) -> NDArray[np.bool_]:
    # A line end after each value keeps what is broken in one from being mended by the next.
    ended = pa.concat_arrays([pc.binary_join_element_wise(pc.fill_null(texts, b""), b"", b"\n")])
    offsets = np.frombuffer(ended.buffers()[1], np.int32)[: len(ended) + 1]
    data = pa.py_buffer(ended.buffers()[2] or b"").to_pybytes()[: offsets[-1]]
    points = np.frombuffer(data.decode("utf-8", "surrogateescape").encode("utf-32-le", "surrogatepass"), np.uint32)
    broken = (points >= 0xDC80) & (points <= 0xDCFF)
    sizes = 1 + ((points >= 0x80) & ~broken) + ((points >= 0x800) & ~broken) + (points >= 0x10000)
    places = np.cumsum(sizes)[broken] - 1
    found = np.ones(len(texts), np.bool_)
    found[np.searchsorted(offsets, places, side="right") - 1] = False
    return found


def readable_texts(column: pa.Array) -> pa.Array:
    """Strings; those that are no UTF-8, which Parquet files may hold, are null."""
    readable = decodable(column.cast(pa.binary()))
    return column if readable.all() else pc.if_else(pa.array(readable), column, pa.scalar(None, pa.string()))


_SAMPLE = 1 << 13
_FEW = 4
"""Different values pay where each stands for so many rows of the first ones."""


def ids_by_values(columns: Sequence[pa.Array], make: Callable[[Sequence[pa.Array]], Ids]) -> Ids:
    """The ids that `make` gives the rows of columns; where few rows are different, it is asked about these only."""
    first = [column.slice(0, _SAMPLE) for column in columns]
    if len(columns[0]) < _FEW * _SAMPLE or any(pc.count_distinct(part, mode="all").as_py() * _FEW > _SAMPLE for part in first):
        return make(columns)
    encoded = [pc.dictionary_encode(column, null_encoding="encode") for column in columns]
    sizes = [len(each.dictionary) for each in encoded]
    if math.prod(sizes) > len(columns[0]):
        return make(columns)
    codes = np.ravel_multi_index([each.indices.to_numpy() for each in encoded], sizes)
    present = np.zeros(math.prod(sizes), np.bool_)
    present[codes] = True
    places = np.unravel_index(np.flatnonzero(present), sizes)
    different = make([each.dictionary.take(pa.array(place)) for each, place in zip(encoded, places, strict=True)])
    return different.take((np.cumsum(present) - 1)[codes])
