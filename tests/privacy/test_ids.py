"""privacy/ids.py, against CBC from the cryptography package over the documented encoding."""

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

from privacy.ids import SECRET_BYTES, Ids, make_ids, new_secret
from tests.privacy.cases import CASES

SECRET = bytes(range(16))
DECIMAL = pa.decimal128(38, 4)


def encoded(value: str | int | Decimal) -> bytes:
    """The blocks of one value: 12 bytes and the length in the first, 16 in each other; numbers repeat their length."""
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
