"""privacy/ids.py, against CBC from the cryptography package over the documented encoding."""

import itertools
import random
import string
import struct
from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from privacy.ids import SECRET_BYTES, Ids, make_ids, make_pair_ids, new_secret
from tests.privacy.cases import CASES

SECRET = bytes(range(16))
DECIMAL = pa.decimal128(38, 4)


NULL = bytes(12) + b"\xff" * 4
NULLS = {pa.string(): NULL, pa.int64(): NULL, DECIMAL: 2 * NULL}
"""The blocks of a null: zeros, and a length that no value has."""


def encoded(value: str | int | Decimal | bytes) -> bytes:
    """The blocks of one value: 12 bytes and the length in the first, 16 in each other; numbers repeat their length."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        text = value.encode()
        rest = text[12:]
        return text[:12].ljust(12, b"\0") + struct.pack("<I", len(text)) + rest + b"\0" * (-len(rest) % 16)
    if isinstance(value, Decimal):
        whole = int(value.scaleb(4)).to_bytes(16, "little", signed=True)
        return b"".join(whole[at : at + 8] + b"\0" * 4 + struct.pack("<I", 16) for at in (0, 8))
    return struct.pack("<q", value) + b"\0" * 4 + struct.pack("<I", 8)


def reference(row: Sequence[Any], secret: bytes, domain: int) -> tuple[int, int]:
    """The last block of AES-CBC, without an initial value, of the domain's block and the values' blocks."""
    message = struct.pack("<QQ", domain, 0) + b"".join(map(encoded, row))
    cipher = Cipher(algorithms.AES(secret), modes.CBC(bytes(16))).encryptor()
    high, low = struct.unpack("<QQ", (cipher.update(message) + cipher.finalize())[-16:])
    return high, low


def pairs(ids: Ids) -> list[tuple[int, int]]:
    """Ids as pairs of Python integers."""
    assert ids.high.dtype == ids.low.dtype == np.uint64
    return list(zip(ids.high.tolist(), ids.low.tolist(), strict=True))


def arrays(rows: Sequence[Sequence[Any]], kinds: Sequence[pa.DataType]) -> list[pa.Array]:
    """One array a column."""
    return [pa.array([row[number] for row in rows], kind) for number, kind in enumerate(kinds)]


_DECIMALS = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda whole: Decimal(whole).scaleb(-4))
_VALUES = {
    pa.string(): st.one_of(st.text(max_size=40), st.text("\0a", max_size=40), st.integers(0, 100).map(lambda size: "x" * size)),
    pa.int64(): st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)),
    DECIMAL: st.one_of(_DECIMALS, st.integers(-3, 3).map(Decimal)),
}


@pytest.fixture(autouse=True)
def _wide_decimals() -> Iterator[None]:
    """Decimal arithmetic of the tests keeps all 38 digits."""
    with localcontext() as context:
        context.prec = 60
        yield


@CASES
@given(st.data())
def test_ids_are_those_of_the_reference(data: st.DataObject) -> None:
    """Any columns, any values; a slice with an offset has the ids of its rows."""
    kinds = data.draw(st.lists(st.sampled_from([pa.string(), pa.int64(), DECIMAL]), min_size=1, max_size=4))
    rows = data.draw(st.lists(st.tuples(*(_VALUES[kind] for kind in kinds)), max_size=8))
    secret, domain = data.draw(st.binary(min_size=16, max_size=16)), data.draw(st.integers(0, 2**64 - 1))
    columns = arrays(rows, kinds)
    expected = [reference(row, secret, domain) for row in rows]
    assert pairs(make_ids(columns, secret, domain)) == expected
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert pairs(make_ids([column[start:stop] for column in columns], secret, domain)) == expected[start:stop]


def test_every_length_of_text() -> None:
    """0 to 100 bytes, ASCII or not, alone and mixed: as the reference, and all different."""
    texts = ["x" * size for size in range(101)] + ["é" * size for size in range(1, 51)] + ["\0" * size for size in range(1, 101)]
    ids = pairs(make_ids([pa.array(texts)], SECRET, 0))
    assert ids == [reference([text], SECRET, 0) for text in texts]
    assert len(set(ids)) == len(texts)


def _random_tuples(rng: random.Random, rows: int) -> list[tuple[str, int, Decimal]]:
    """Different tuples of short texts and small numbers, so that many share a part."""
    found: set[tuple[str, int, Decimal]] = set()
    while len(found) < rows:
        text = "".join(rng.choices("ab\0é" + string.digits, k=rng.randrange(0, 30)))
        found.add((text, rng.randrange(-50, 50), Decimal(rng.randrange(-50, 50)).scaleb(-4)))
    return sorted(found)


def test_different_tuples_have_different_ids_and_equal_ones_the_same() -> None:
    """1e5 tuples of text, integer and decimal, each twice: neither word alone repeats more than chance allows."""
    rows = _random_tuples(random.Random(1), 100_000)
    kinds = [pa.string(), pa.int64(), DECIMAL]
    once = pairs(make_ids(arrays(rows, kinds), SECRET, 1))
    shuffled = list(range(len(rows)))
    random.Random(2).shuffle(shuffled)
    again = pairs(make_ids(arrays([rows[number] for number in shuffled], kinds), SECRET, 1))
    assert again == [once[number] for number in shuffled]
    assert len(set(once)) == len(rows)
    # 5e9 pairs and 64 bits: a word repeats with probability 3e-10.
    assert len({high for high, _ in once}) == len(rows)
    assert len({low for _, low in once}) == len(rows)


def test_tuples_that_look_alike() -> None:
    """Cut in another place, with zero bytes at the end, swapped, or with an empty part."""
    two = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("c", "ab"), ("ab\0", "c"), ("ab", "c\0"), ("ab", "\0c"), ("", "")]
    long = [("x" * 12, "y" * 16), ("x" * 28, ""), ("x" * 12 + "y" * 16, ""), ("x" * 11, "xy" * 8), ("x" * 12, "y" * 15 + "\0")]
    ids = pairs(make_ids(arrays(two + long, [pa.string(), pa.string()]), SECRET, 0))
    assert len(set(ids)) == len(two + long)
    texts = ["", "\0", "\0\0", "a", "a\0", "a" * 12, "a" * 12 + "\0", "a" * 12 + "\0" * 4, "a" * 12 + "\0" * 16, "a" * 28]
    assert len(set(pairs(make_ids([pa.array(texts)], SECRET, 0)))) == len(texts)
    numbers = [0, 1, -1, 256, 2**32, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
    assert len(set(pairs(make_ids([pa.array(numbers)], SECRET, 0)))) == len(numbers)


def test_secrets_and_domains_have_nothing_to_do_with_one_another() -> None:
    """The same tuples under another secret, or in another domain, have other ids; none is met again."""
    texts = pa.array(["", "a", "b" * 50])
    seen = [pair for domain in (0, 1, 2, 2**64 - 1) for pair in pairs(make_ids([texts], SECRET, domain))]
    seen += pairs(make_ids([texts], bytes(16), 0)) + pairs(make_ids([texts], SECRET[:-1] + b"\xff", 0))
    assert len(set(seen)) == 18
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {SECRET_BYTES}


def test_ids_of_pairs_are_those_of_their_two_ids() -> None:
    """Two blocks after the domain's, as the reference; which comes first matters."""
    first, second = (make_ids([pa.array(texts)], SECRET, 3) for texts in (["a", "b", "a"], ["b", "a", "a"]))
    blocks = [[struct.pack("<QQ", *pair) for pair in pairs(ids)] for ids in (first, second)]
    found = pairs(make_pair_ids(first, second, SECRET, 4))
    assert found == [reference(row, SECRET, 4) for row in zip(*blocks, strict=True)]
    assert len(set(found)) == 3


def test_slices_of_long_arrays() -> None:
    """Offsets into shared buffers, also where the rest of the buffer holds other text."""
    rows = _random_tuples(random.Random(3), 5000)
    columns = arrays(rows, [pa.string(), pa.int64(), DECIMAL])
    whole = pairs(make_ids(columns, SECRET, 0))
    for start, size in [(0, 10), (1, 1), (4990, 10), (17, 3000), (5000, 0), (0, 0)]:
        assert pairs(make_ids([column.slice(start, size) for column in columns], SECRET, 0)) == whole[start : start + size]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), DECIMAL])
def test_no_rows(kind: pa.DataType) -> None:
    """An empty array, however it came to be, has no ids."""
    for column in (pa.array([], kind), pa.nulls(0, kind), pa.array([None], kind)[:0]):
        assert pairs(make_ids([column], SECRET, 0)) == []


def test_every_bit_of_an_id_is_used() -> None:
    """Of 1e4 ids, each of 128 bits is 1 in about half: within 6.2 deviations, a false failure of 128 times 6e-10."""
    ids = make_ids([pa.array(range(10_000))], SECRET, 0)
    for word in ids:
        ones = np.array([int((word >> np.uint64(bit) & np.uint64(1)).sum()) for bit in range(64)])
        assert (abs(ones - 5000) < 6.2 * 50).all()


def tuples(kinds: Sequence[pa.DataType]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Rows of values and nulls; about as many of the one as of the other."""
    return st.lists(st.tuples(*(st.one_of(st.none(), _VALUES[kind]) for kind in kinds)), max_size=8)


@CASES
@given(st.data())
def test_b5_ids_of_nulls_are_those_of_the_reference(data: st.DataObject) -> None:
    """A null has blocks of its own, wherever it stands; a slice with an offset has the ids of its rows."""
    kinds = data.draw(st.lists(st.sampled_from([pa.string(), pa.int64(), DECIMAL]), min_size=1, max_size=4))
    rows = data.draw(tuples(kinds))
    columns = arrays(rows, kinds)
    filled = [[NULLS[kind] if value is None else value for kind, value in zip(kinds, row, strict=True)] for row in rows]
    expected = [reference(row, SECRET, 7) for row in filled]
    assert pairs(make_ids(columns, SECRET, 7)) == expected
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert pairs(make_ids([column[start:stop] for column in columns], SECRET, 7)) == expected[start:stop]


LIKE_NULL: dict[pa.DataType, list[Any]] = {
    pa.string(): ["", "\0", "\0" * 12, "\0" * 28, "null", "None", "NA", " ", r"\N", "\ufeff"],
    pa.int64(): [0, -1, 1, 8, 16, 2**32 - 1, -(2**32), 2**63 - 1, -(2**63)],
    DECIMAL: [Decimal(f"{whole}E-4") for whole in (10**38 - 1, 0, -1, 1, 16, 2**32 - 1, -(2**32), (2**32 - 1) << 64)],
}


@pytest.mark.parametrize("kind", LIKE_NULL, ids=str)
def test_b4_b5_null_is_no_other_value(kind: pa.DataType) -> None:
    """Not the empty text, not zero, not what a writer shows it as; and every null is the same."""
    values = [None, *LIKE_NULL[kind], None]
    ids = pairs(make_ids([pa.array(values, kind)], SECRET, 0))
    assert ids[0] == ids[-1]
    assert len(set(ids)) == len(values) - 1


def test_b4_b5_nulls_within_tuples() -> None:
    """Which columns are null tells tuples apart; so does what the others hold, and where."""
    kinds = [pa.string(), pa.int64(), DECIMAL]
    rows = list(itertools.product((None, "", "a"), (None, 0, 1), (None, Decimal(0), Decimal(1))))
    assert (len(set(rows)), (None, None, None) in rows) == (27, True)
    ids = pairs(make_ids(arrays(rows, kinds), SECRET, 0))
    assert len(set(ids)) == 27
    texts = [(None, "a"), ("a", None), (None, None), ("a", "a"), ("", "a"), ("a", ""), (None, ""), ("", None), ("", "")]
    assert len(set(pairs(make_ids(arrays(texts, [pa.string()] * 2), SECRET, 0)))) == len(texts)
    assert pairs(make_ids(arrays(rows, kinds), SECRET, 0)) == ids


def _bits(given: Sequence[bool]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(np.array(given), bitorder="little").tobytes())


def _over_garbage(kind: pa.DataType, given: Sequence[bool]) -> pa.Array:
    """An array whose null slots have bytes of their own, all different."""
    rng = np.random.default_rng(1)
    if kind == pa.string():
        sizes = [number % 40 for number in range(len(given))]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        text = rng.integers(97, 123, offsets[-1], np.uint8).tobytes()
        return pa.Array.from_buffers(kind, len(given), [_bits(given), pa.py_buffer(offsets.tobytes()), pa.py_buffer(text)])
    words = rng.integers(0, 2**60, len(given) * kind.byte_width // 8)
    return pa.Array.from_buffers(kind, len(given), [_bits(given), pa.py_buffer(words.tobytes())])


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), DECIMAL], ids=str)
def test_b5_what_lies_beneath_a_null_does_not_matter(kind: pa.DataType) -> None:
    """Buffers hold some bytes there as well: ids are those of nulls that were written clean, also in slices."""
    given = [number % 3 > 0 for number in range(100)]
    dirty = _over_garbage(kind, given)
    values = _over_garbage(kind, [True] * 100).to_pylist()
    assert (dirty.null_count, len(set(values)) > 90) == (34, True)
    clean = pa.array([value if valid else None for value, valid in zip(values, given, strict=True)], kind)
    assert dirty.equals(clean)
    ids = pairs(make_ids([clean], SECRET, 0))
    assert len(set(ids)) > 60
    for start, size in [(0, 100), (1, 99), (13, 64), (3, 1), (4, 1), (100, 0)]:
        assert pairs(make_ids([dirty.slice(start, size)], SECRET, 0)) == ids[start : start + size]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), DECIMAL], ids=str)
def test_b5_columns_of_nulls_only(kind: pa.DataType) -> None:
    """However they came to be: all of them have the id of a null."""
    expected = reference([NULLS[kind]], SECRET, 0)
    for column in (pa.nulls(3, kind), pa.array([None] * 3, kind), pa.nulls(9, kind)[5:8], _over_garbage(kind, [True, False])[1:]):
        assert column.null_count == len(column) > 0
        assert pairs(make_ids([column], SECRET, 0)) == [expected] * len(column)
