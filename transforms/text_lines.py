"""Lines of text files, in blocks of columns: decompressed, decoded and cut without Python per line."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privacy.grid import Ints
from transforms.columns import decodable

BLOCK_BYTES = 1 << 22
_LONGEST_LINE = 1 << 20
_NEWLINE, _QUOTE = b'\n"'
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


SEPARATOR = "\x1f"
"""What `mark_delimiters` puts between values: ASCII's unit separator."""


def mark_delimiters(texts: pa.Array, delimiter: str) -> tuple[pa.Array, pa.Array]:
    """Puts `SEPARATOR` where a delimiter stands outside of quotes.

    Args:
        texts: lines of CSV, strings. Each is looked at alone.
        delimiter: one ASCII character.

    Returns:
        The marked lines, and whether each is well-formed: its quotes come in pairs, open at the start of a value and close
        at its end (doubled ones within), and it holds no `SEPARATOR` of its own. string and bool, shape (n,) each.
    """
    texts = pa.concat_arrays([texts])  # drops an offset
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[: len(texts) + 1]
    text = pa.py_buffer(texts.buffers()[2] or b"").to_pybytes()[: offsets[-1]]
    if b'"' not in text and SEPARATOR.encode() not in text:
        return _marked(texts, text.replace(delimiter.encode(), SEPARATOR.encode())), pa.array(np.ones(len(texts), np.bool_))
    data = np.frombuffer(text, np.uint8).copy()
    sound = np.ones(len(texts), np.bool_)

    def spoil(places: Ints) -> None:
        sound[np.searchsorted(offsets, places, side="right") - 1] = False

    spoil(np.flatnonzero(data == ord(SEPARATOR)))
    delimiters = np.flatnonzero(data == ord(delimiter))
    quotes = np.flatnonzero(data == _QUOTE)
    if quotes.size:
        before = np.searchsorted(quotes, offsets)
        sound &= (np.diff(before) & 1) == 0
        line_of = np.searchsorted(offsets, quotes, side="right") - 1
        opens = ((np.arange(len(quotes)) - before[line_of]) & 1) == 0
        edge = np.zeros(len(data) + 2, np.bool_)  # shifted by one: where a value may begin or end, or a quote is doubled
        edge[1:-1][delimiters] = True
        edge[1:-1][quotes] = True
        starts, ends = quotes == offsets[line_of], quotes + 1 == offsets[line_of + 1]
        spoil(quotes[opens & ~(starts | edge[quotes])])
        spoil(quotes[~opens & ~(ends | edge[quotes + 2])])
        line_of = np.searchsorted(offsets, delimiters, side="right") - 1
        delimiters = delimiters[((np.searchsorted(quotes, delimiters) - before[line_of]) & 1) == 0]
    data[delimiters] = ord(SEPARATOR)
    return _marked(texts, data.tobytes()), pa.array(sound)


def _marked(texts: pa.Array, data: bytes) -> pa.Array:
    """The same lines over other bytes."""
    return pa.Array.from_buffers(pa.string(), len(texts), [None, texts.buffers()[1], pa.py_buffer(data)])


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
