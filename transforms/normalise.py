"""One spelling for texts that mean the same: before anything is grouped, looked up or compared."""

import unicodedata
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.columns import readable_texts

_END = b"\xff"
"""Ends each value: it is in no UTF-8, and as a lone surrogate nothing folds it or is composed across it."""


def normalise(column: pa.Array, forms: Sequence[str]) -> pa.Array:
    """Texts in the declared forms, one after the other. A text that is no UTF-8 becomes null.

    Args:
        column: strings.
        forms: of trim (Unicode white space at both ends), casefold (Unicode's full case folding), nfc (composed characters).

    >>> normalise(pa.array(["  Straße", "STRASSE"]), ["trim", "casefold"]).to_pylist()
    ['strasse', 'strasse']
    """
    if not forms:
        return column
    column = readable_texts(column)
    for form in forms:
        if form == "trim":
            column = pc.utf8_trim_whitespace(column)
        elif form == "casefold":
            column = _as_one_text(column, str.casefold)
        else:
            column = _as_one_text(column, partial(unicodedata.normalize, "NFC"))
    return column


def _as_one_text(column: pa.Array, change: Callable[[str], str]) -> pa.Array:
    """Changes all values at once: Arrow lowers letters one by one, and its normal form C is not composed."""
    marked = pc.binary_join_element_wise(pc.fill_null(column, "").cast(pa.binary()), b"", _END)
    marked = pa.concat_arrays([marked])  # drops an offset
    offsets = np.frombuffer(marked.buffers()[1], np.int32)
    text = pa.py_buffer(marked.buffers()[2] or b"").to_pybytes()[: offsets[len(column)]]
    changed = change(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    ends = np.flatnonzero(np.frombuffer(changed, np.uint8) == _END[0])
    edges = pa.array(np.concatenate([[0], ends - np.arange(len(ends))])).cast(pa.int32())  # fails beyond 2 GiB
    buffers = [None, edges.buffers()[1], pa.py_buffer(changed.replace(_END, b""))]
    texts = pa.Array.from_buffers(pa.string(), len(column), buffers)
    return pc.if_else(pc.is_valid(column), texts, pa.scalar(None, pa.string())) if column.null_count else texts
