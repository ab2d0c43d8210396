"""128-bit ids of units and keys: a keyed MAC, so that nobody who does not hold the run's secret can aim for a collision."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

Words = NDArray[np.uint64]

SECRET_BYTES = 16
_FIRST_BLOCK = 12
_NULL = np.uint64((1 << 32) - 1) << np.uint64(32)
"""In the place of the length; no value is that long."""
_BLOCK = 16
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)


class Ids(NamedTuple):
    """128-bit ids in two words each. uint64, shape (n,), twice."""

    high: Words
    low: Words

    def take(self, rows: NDArray[np.int64]) -> "Ids":
        return Ids(self.high[rows], self.low[rows])


def new_secret() -> bytes:
    """A secret for the ids of one run, from the operating system's entropy."""
    return os.urandom(SECRET_BYTES)


def make_ids(columns: Sequence[pa.Array], secret: bytes, domain: int) -> Ids:
    """The ids of the tuples in these columns.

    Args:
        columns: at least one, of equal length, each a string (32-bit offsets), decimal128 or int64 array. Null is a value of
            its own.
        secret: of `new_secret`.
        domain: ids of different domains have nothing to do with one another. In 0..2^64 - 1.

    The types of the columns are the caller's to fix: an integer and a text of the same bytes have the same id.

    Guarantee: equal tuples have equal ids; among tuples of together 2^40 blocks, two have the same with probability below
        2^-48 over the secret, as long as AES-128 cannot be told from a random permutation.
    Source: Bellare, Kilian and Rogaway 2000, The Security of the Cipher Block Chaining Message Authentication Code; the
        length, or that there is none, comes first, which makes the encoding prefix-free. docs/guarantee.md, "Ids".
    """
    cipher, high, low = _started(len(columns[0]), secret, domain)
    for column in columns:
        for which, block_high, block_low in _blocks(column):
            if which is None:
                high, low = _encrypt(cipher, high ^ block_high, low ^ block_low)
            else:
                high[which], low[which] = _encrypt(cipher, high[which] ^ block_high, low[which] ^ block_low)
    return Ids(high, low)


def make_pair_ids(first: Ids, second: Ids, secret: bytes, domain: int) -> Ids:
    """The ids of pairs, of the ids of their two values: two blocks each, however long the values are.

    Args:
        first, second: of `make_ids`, in a domain of their own, shape (n,).
        domain: one that `make_ids` is not called with.

    Guarantee: as of `make_ids`.
    Source: docs/guarantee.md, "Ids".
    """
    cipher, high, low = _started(len(first.high), secret, domain)
    for ids in (first, second):
        high, low = _encrypt(cipher, high ^ ids.high, low ^ ids.low)
    return Ids(high, low)


def _started(rows: int, secret: bytes, domain: int) -> tuple[CipherContext, Words, Words]:
    """The cipher, and the domain's first block for each row."""
    cipher = Cipher(algorithms.AES(secret), modes.ECB()).encryptor()  # ECB of one block is the block cipher itself
    first = _encrypt(cipher, np.array([domain], np.uint64), np.zeros(1, np.uint64))
    return cipher, np.full(rows, first[0][0]), np.full(rows, first[1][0])


def _encrypt(cipher: CipherContext, high: Words, low: Words) -> tuple[Words, Words]:
    blocks = np.empty((len(high), 2), np.uint64)
    blocks[:, 0], blocks[:, 1] = high, low
    sealed = np.frombuffer(cipher.update(blocks.tobytes()), np.uint64).reshape(-1, 2)
    return sealed[:, 0].copy(), sealed[:, 1].copy()


def _blocks(column: pa.Array) -> Iterator[tuple[NDArray[np.int64] | None, Words, Words]]:
    """The blocks of a column's values, one after the other; and for which rows, None for all."""
    if pa.types.is_string(column.type):
        yield from _string_blocks(column)
        return
    given = pc.is_valid(column).to_numpy(zero_copy_only=False) if column.null_count else None
    if pa.types.is_decimal128(column.type):
        words = np.frombuffer(column.buffers()[1], np.uint64)[2 * column.offset :][: 2 * len(column)].reshape(-1, 2)
        for place in (0, 1):
            yield None, *_fixed_block(words[:, place].copy(), 16, given)
    else:
        values = column.fill_null(0) if column.null_count else column
        yield None, *_fixed_block(values.to_numpy(zero_copy_only=False).astype(np.int64, copy=False).view(np.uint64), 8, given)


def _fixed_block(values: Words, size: int, given: NDArray[np.bool_] | None) -> tuple[Words, Words]:
    """One word of values of a fixed size, and the length; nulls are zeros with a length of their own."""
    length = np.uint64(size << 32)
    if given is None:
        return values, np.full(len(values), length)
    return np.where(given, values, np.uint64(0)), np.where(given, length, _NULL)


def _string_blocks(column: pa.Array) -> Iterator[tuple[NDArray[np.int64] | None, Words, Words]]:
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1].astype(np.int64)
    starts, lengths = offsets[:-1], np.diff(offsets)
    given = None
    if column.null_count:
        given = pc.is_valid(column).to_numpy(zero_copy_only=False)
        lengths = np.where(given, lengths, 0)
    sizes = lengths.astype(np.uint64) << np.uint64(32)
    data = column.buffers()[2]
    text = np.zeros(int(offsets[-1]) + 3 * _BLOCK, np.uint8)
    if data is not None:
        text[: offsets[-1]] = np.frombuffer(data, np.uint8)[: offsets[-1]]
    yield (
        None,
        _words(text, starts, lengths),
        _words(text, starts + 8, np.minimum(lengths - 8, 4)) | (sizes if given is None else np.where(given, sizes, _NULL)),
    )
    done = _FIRST_BLOCK
    while (which := np.flatnonzero(lengths > done)).size:
        at, left = starts[which] + done, lengths[which] - done
        yield which, _words(text, at, left), _words(text, at + 8, left - 8)
        done += _BLOCK


def _words(text: NDArray[np.uint8], at: NDArray[np.int64], sizes: NDArray[np.int64]) -> Words:
    """Up to 8 bytes from each position as a little-endian number; bytes beyond `sizes` are 0."""
    # Copying 8-byte rows out of a strided view is what NumPy does fastest without a Python loop.
    view: Words = np.ndarray((len(text) - 7,), np.dtype("<u8"), text, strides=(1,))
    return view[at] & _MASKS[np.clip(sizes, 0, 8)]
