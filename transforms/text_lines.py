"""Lines of text files, in blocks of columns: decompressed, decoded and cut without Python per line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.grid import Ints
from transforms.columns import decodable

BLOCK_BYTES = 1 << 22
_LONGEST_LINE = 1 << 20
_NEWLINE, _QUOTE, _UNIT_SEPARATOR = b'\n"\x1f'
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """Some lines of a file.

    Attributes:
        numbers: int64, shape (n,): 1 for the first line of the file.
        texts: UTF-8 strings, without line ends.
        readable: bool: False for lines that are no UTF-8 or longer than a mebibyte; their text is empty.
    """

    numbers: Ints
    texts: pa.Array
    readable: pa.Array


@dataclass(frozen=True)
class CsvColumn:
    """The values of a column without their outer quotes, and which had some. string and bool, shape (n,) each."""

    values: pa.Array
    quoted: pa.Array


@dataclass(frozen=True)
class CsvLines:
    """Lines of CSV, cut into values.

    Attributes:
        sound: bool, shape (n,): the quotes come in pairs, open at the start of a value and close at its end (doubled ones
            within), and the line holds no ASCII unit separator.
        complete: bool, shape (n,): the line is sound and has as many values as there are columns.
        columns: those asked for, empty where the line is not complete.
    """

    sound: pa.Array
    complete: pa.Array
    columns: list[CsvColumn]


def cut_lines(texts: pa.Array, delimiter: str, width: int, places: Sequence[int]) -> CsvLines:
    """Cuts lines of CSV at the delimiters outside of quotes. Each line is looked at alone.

    Args:
        texts: strings.
        delimiter: one ASCII character.
        width: how many columns there are.
        places: of the columns that are needed.
    """
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1].astype(np.int64)
    text = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    offsets -= offsets[0]  # those of a slice begin later
    data = np.append(text, np.uint8(0))  # now every byte has a next one
    delimiters, sound = _find_delimiters(data, offsets, ord(delimiter))
    first = np.searchsorted(delimiters, offsets)
    complete = sound & (np.diff(first) == width - 1)

    def between(place: int) -> CsvColumn:
        starts, ends = offsets[:-1], offsets[1:]
        if place > 0:
            starts = delimiters.take(first[:-1] + (place - 1), mode="clip") + 1
        if place < width - 1:
            ends = delimiters.take(first[:-1] + place, mode="clip")
        return _column(data, np.where(complete, starts, offsets[:-1]), np.where(complete, ends, offsets[:-1]))

    return CsvLines(pa.array(sound), pa.array(complete), [between(place) for place in places])


def _find_delimiters(data: NDArray[np.uint8], offsets: Ints, delimiter: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Where delimiters stand outside of quotes, then the end of the data; and which lines are sound."""
    sound = np.ones(len(offsets) - 1, np.bool_)

    def spoil(places: Ints) -> None:
        sound[np.searchsorted(offsets, places, side="right") - 1] = False

    spoil(np.flatnonzero(data == _UNIT_SEPARATOR))
    found, quote = data == delimiter, data == _QUOTE
    if quote.any():
        quotes = np.flatnonzero(quote)
        counts = np.diff(np.searchsorted(quotes, offsets))
        odd = (counts & 1) == 1
        sound &= ~odd
        # Without the lines that leave one open, quotes open and close in turn through all lines.
        unpaired = np.repeat(odd, counts)
        quote[quotes[unpaired]] = False
        opening, closing = quotes[~unpaired].reshape(-1, 2).T
        edge = np.zeros(len(data), np.bool_)
        edge[offsets] = True
        before, after = data[opening - 1], data[closing + 1]
        spoil(opening[~(edge[opening] | (before == delimiter) | (before == _QUOTE))])
        spoil(closing[~(edge[closing + 1] | (after == delimiter) | (after == _QUOTE))])
        found &= ~np.logical_xor.accumulate(quote)
    return np.append(np.flatnonzero(found), len(data) - 1), sound


def _column(data: NDArray[np.uint8], starts: Ints, ends: Ints) -> CsvColumn:
    quoted = (starts < ends) & (data[starts] == _QUOTE)
    # What lies between two values is a string as well: each ends where the next begins.
    bounds = np.full(2 * len(starts) + 1, len(data), np.int32)
    bounds[0:-1:2] = starts + quoted
    bounds[1::2] = ends - quoted
    strings = pa.Array.from_buffers(pa.string(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    return CsvColumn(strings.take(pa.array(np.arange(0, len(bounds) - 1, 2))), pa.array(quoted))


def read_lines(path: str, encoding: str, block_bytes: int = BLOCK_BYTES) -> Iterator[Lines]:
    """The lines of a file, about 4 MiB at a time. Files that end in .gz or .zst are decompressed.

    Args:
        encoding: utf-8, or an encoding with one byte a character.

    Raises:
        OSError, pa.ArrowException: the file cannot be read or decompressed.
    """
    number, rest, too_long = 1, b"", False
    with pa.input_stream(path, compression="detect") as stream:
        while block := stream.read(block_bytes):
            data = rest + bytes(block)
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                lines = _lines(data[:cut], number, encoding, too_long)
                number, too_long = number + len(lines.numbers), False
                yield lines
            if len(rest) > _LONGEST_LINE + 1:  # with the first half of a line end, perhaps
                rest, too_long = b"", True  # only that the line is too long is kept of it
    if rest or too_long:
        yield _lines(rest + b"\n", number, encoding, too_long)


def _lines(data: bytes, number: int, encoding: str, first_too_long: bool) -> Lines:
    if number == 1 and data.startswith(_MARK):
        data = data[len(_MARK) :]
    if encoding != "utf-8":
        data = data.decode(encoding, errors="replace").encode()
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    # Without its line ends, the text of a line ends where that of the next begins.
    offsets = np.concatenate([[0], ends - np.arange(len(ends))]).astype(np.int32)
    sizes = np.diff(offsets)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data.replace(b"\n", b""))]
    texts = pa.Array.from_buffers(pa.binary(), len(ends), buffers)
    readable = sizes <= _LONGEST_LINE
    readable[0] &= not first_too_long
    readable &= decodable(texts)
    if not readable.all():
        texts = pc.if_else(pa.array(readable), texts, pa.scalar(b"", pa.binary()))
    return Lines(np.arange(number, number + len(ends)), texts.cast(pa.string()), pa.array(readable))
