"""B6: spellings are made one as declared, each text alone, against Python's own functions; what is no UTF-8 becomes null."""

import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.test_columns_not_rows import instructions
from transforms.normalise import normalise

CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
ORACLES = {"trim": str.strip, "casefold": str.casefold, "nfc": lambda text: unicodedata.normalize("NFC", text)}
FORMS = [["trim"], ["casefold"], ["nfc"], ["trim", "casefold", "nfc"], ["nfc", "casefold", "trim"], ["casefold", "trim"]]

SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_SPACES = "\u200b\ufeff\u180e\u2060\0"
MARKS = "\u0300\u0301\u0308\u0323\u0327\u0345\u3099"
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text(st.sampled_from(SPACES + NOT_SPACES + "aB"), max_size=8),
    st.text(st.sampled_from("aAeEoOßẞﬁſKÅςσΣİıǅŉΐᾳᾼ" + MARKS), max_size=8),
    st.text(st.sampled_from("가각각" + "👩‍👩‍👧‍👦🇩🇪é" + MARKS), max_size=8),
)
COLUMNS = st.lists(st.one_of(st.none(), TEXTS), max_size=12)


def spelled(column, forms):
    """What `normalise` makes of it, as sound texts."""
    found = normalise(column, forms)
    found.validate(full=True)
    assert found.type == pa.string()
    return found.to_pylist()


def expected(values, forms):
    """The same by Python, one value at a time."""
    for form in forms:
        values = [None if value is None else ORACLES[form](value) for value in values]
    return values


def test_arrow_and_python_agree_on_white_space():
    """Every character of Unicode: the same ones are trimmed, so that the other tests need to leave none out."""
    trimmed = pc.equal(pc.utf8_trim_whitespace(pa.array(CHARACTERS)), "").to_pylist()
    spaces = {character for character, gone in zip(CHARACTERS, trimmed, strict=True) if gone}
    assert spaces == {character for character in CHARACTERS if character.isspace()} >= set(SPACES)
    assert not spaces & set(NOT_SPACES)


def test_b6_casefold_of_every_character():
    """Alone; and those that change also at the beginning and at the end of a text."""
    change = [character for character in CHARACTERS if character != character.casefold()]
    assert len(change) > 1400
    texts = [*CHARACTERS, *(character + "A" for character in change), *("ΑΣ" + character for character in change)]
    assert normalise(pa.array(texts), ["casefold"]).to_pylist() == [text.casefold() for text in texts]


@pytest.mark.parametrize("forms", FORMS, ids=" ".join)
@given(COLUMNS)
def test_b6_each_text_is_what_python_makes_of_it(forms, values):
    """Nulls stay null, empty texts empty; in slices, and whatever else is in the column."""
    column = pa.array(values, pa.string())
    wanted = expected(values, forms)
    assert spelled(column, forms) == wanted
    for start, size in ((1, 20), (0, 3), (2, 5), (3, 0)):
        assert spelled(column[start:].slice(0, size), forms) == wanted[start:][:size]
    assert [spelled(pa.array([value], pa.string()), forms)[0] for value in values] == wanted


@given(TEXTS)
def test_b6_composed_and_decomposed_become_one(text):
    """Any text, its NFC and its NFD: three spellings in, one out, which is the NFC."""
    composed = unicodedata.normalize("NFC", text)
    spellings = pa.array([text, composed, unicodedata.normalize("NFD", text)])
    assert normalise(spellings, ["nfc"]).to_pylist() == [composed] * 3


@given(COLUMNS)
def test_b6_a_second_time_changes_nothing(values):
    """What is normalised stays as it is. (With casefold after nfc it may not: what was folded can be composed again.)"""
    for forms in (["trim"], ["casefold"], ["nfc"], ["trim", "casefold", "nfc"]):
        once = normalise(pa.array(values, pa.string()), forms)
        assert normalise(once, forms).equals(once)


SPELLINGS = [
    # texts, forms, whether they are one
    (["Straße", "STRASSE", "straẞe", "strasse"], ["casefold"], True),
    (["ﬁn", "FIN", "fin"], ["casefold"], True),
    (["ﬁn", "fin"], ["nfc"], False),
    (["ΣΟΦΟΣ", "σοφος", "σοφοσ"], ["casefold"], True),
    (["ΣΟΦΟΣ", "σοφος"], ["trim", "nfc"], False),
    (["Zo\u00eb", "Zoe\u0308"], ["nfc"], True),
    (["Zo\u00eb", "Zoe\u0308"], ["trim", "casefold"], False),
    (["Zoe", "Zo\u00eb"], ["trim", "casefold", "nfc"], False),
    (["\u212b", "\u00c5", "A\u030a"], ["nfc"], True),
    (["q\u0323\u0307", "q\u0307\u0323"], ["nfc"], True),
    (["한글", unicodedata.normalize("NFD", "한글")], ["nfc"], True),
    (["anna ", " anna", "anna\u3000", "\u2003anna\n", "anna"], ["trim"], True),
    (["an na", "anna"], ["trim"], False),
    (["anna\u200b", "anna"], ["trim"], False),
    (["anna ", "anna"], ["casefold", "nfc"], False),
    (["Anna", "ANNA", "anna"], ["casefold"], True),
    (["Anna", "anna"], ["trim"], False),
    (["👩‍👧", "👩👧"], ["trim", "casefold", "nfc"], False),
    (["👩‍👧 ", "👩‍👧"], ["trim", "casefold", "nfc"], True),
    (["I", "ı"], ["casefold"], False),
    (["1", "01"], ["trim", "casefold", "nfc"], False),
    ([" Zoe\u0308 ", "ZO\u00cb"], ["trim", "casefold", "nfc"], True),
]


@pytest.mark.parametrize(("texts", "forms", "one"), SPELLINGS)
def test_b6_what_becomes_one_and_what_does_not(texts, forms, one):
    assert len(set(texts)) == len(texts) > 1
    assert len(set(normalise(pa.array(texts), forms).to_pylist())) == (1 if one else len(texts))


@pytest.mark.parametrize("forms", FORMS, ids=" ".join)
def test_columns_without_texts(forms):
    """No rows, nulls only, empty texts only, one value."""
    for values in ([], [None], [None] * 9, [""], ["", ""], ["", None], ["x"], [None, "x"]):
        assert normalise(pa.array(values, pa.string()), forms).to_pylist() == values
    assert normalise(pa.nulls(5, pa.string())[2:4], forms).to_pylist() == [None, None]
    assert normalise(pa.array([" "] * 3), ["trim"]).to_pylist() == [""] * 3
    assert normalise(pa.array(["a" * 100_000 + "ß"]), forms).type == pa.string()


def test_without_forms_nothing_happens():
    column = strings([b" \xff", b"A"])
    assert normalise(column, ()) is column


def strings(values, given=None):
    """An array of strings of whatever bytes. Those that are not given are null, with their bytes beneath."""
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in values])]).astype(np.int32)
    bits = None if given is None else pa.py_buffer(np.packbits(np.array(given, np.bool_), bitorder="little").tobytes())
    data = b"".join(values)
    return pa.Array.from_buffers(pa.string(), len(values), [bits, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)])


def decoded(value):
    """The text that bytes are, None if they are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


NO_UTF8 = [b"\xff", b"\xc3", b"\xc3(", b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"caf\xe9", b"\xff" * 50]
BYTES = st.one_of(st.binary(max_size=8), st.sampled_from(NO_UTF8), TEXTS.map(str.encode))


@pytest.mark.parametrize("forms", FORMS, ids=" ".join)
@given(st.lists(st.tuples(BYTES, st.booleans()), max_size=12))
def test_b6_s4_what_is_no_utf8_becomes_null_and_the_others_stay(forms, values):
    """Also within nulls' bytes, and in slices: never an error, since a failure that depends on data tells about it."""
    column = strings([value for value, _ in values], [given for _, given in values])
    wanted = expected([decoded(value) if given else None for value, given in values], forms)
    assert spelled(column, forms) == wanted
    assert spelled(column[1:], forms) == wanted[1:]
    assert spelled(column[:3], forms) == wanted[:3]


@pytest.mark.parametrize("forms", FORMS, ids=" ".join)
def test_b6_s4_texts_that_are_no_utf8_come_from_parquet(tmp_path, forms):
    """Parquet does not look at what it holds, nor does Arrow when it reads it."""
    pq.write_table(pa.table({"u": strings([*NO_UTF8, b"x"])}), tmp_path / "a.parquet")
    read = pq.read_table(tmp_path / "a.parquet")["u"].combine_chunks()
    assert read.cast(pa.binary()).to_pylist() == [*NO_UTF8, b"x"]
    assert normalise(read, forms).to_pylist() == [None] * len(NO_UTF8) + ["x"]


@pytest.mark.parametrize("form", ["trim", "casefold", "nfc"])
def test_python_does_not_grow_with_rows(form):
    """No code of Python runs for each text, as long as the texts are such."""
    small, large = (pa.array([" É ", None, "ß"] * rows) for rows in (50, 50_000))
    instructions(lambda: normalise(small, [form]))  # imports and caches
    counts = [instructions(lambda column=column: normalise(column, [form])) for column in (small, large)]
    assert 10 < counts[0] <= counts[1] < counts[0] + 100
