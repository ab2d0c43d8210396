"""Books: what entries come to, by windows and by states; and whichever entry is touched, it is noticed (R8)."""

import datetime
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.book import Book, Window, pots_json, read_book
from ledger.entries import Entry, Kind, changed, next_entry
from privacy.pots import Pots
from tests.ledger.asking import FIRST, LIMIT, UNIT, days
from transforms.errors import CheckError

FACTS = settings(max_examples=200, deadline=None, derandomize=True)
ONE = Pots(mu2=LIMIT.mu2 / 4)


def entries_of(*added: tuple[Kind, dict[str, Any]]) -> list[Entry]:
    """A book's entries: the opening, and these."""
    opening: tuple[Kind, dict[str, Any]] = ("open", {"unit": UNIT, "limit": {"epsilon": LIMIT.epsilon, "delta": LIMIT.delta}})
    entries: list[Entry] = []
    for kind, content in (opening, *added):
        entries.append(next_entry("people", entries[-1] if entries else None, kind, content))
    return entries


def charged(run: str, pots: Pots = ONE, window: Window | None = None) -> tuple[Kind, dict[str, Any]]:
    shown = None if window is None else [day.isoformat() for day in window]
    return "charge", {"run": run, "window": shown, "pots": pots_json(pots), "nonce": "n"}


def read(entries: Sequence[Entry]) -> Book:
    """The book of entries that nobody touched."""
    return read_book(entries, [entry.digest for entry in entries])


def a_book() -> list[Entry]:
    """One of each kind, seven in all."""
    return entries_of(
        charged("a"),
        ("settle", {"run": "a"}),
        charged("b"),
        ("void", {"run": "b", "reason": "why"}),
        charged("b", Pots(mu2=Fraction(1, 3))),
        ("limit", {"limit": {"epsilon": 2.0, "delta": 1e-5}, "reason": "why"}),
    )


def test_what_a_book_says():
    """States, pots, limits and their order; of two charges of a run id the one that is not void."""
    book = read(a_book())
    assert [(charge.run, charge.state, charge.number) for charge in book.charges] == [
        ("a", "settled", 2),
        ("b", "void", 4),
        ("b", "reserved", 6),
    ]
    assert (book.limit.epsilon, book.limit.delta) == (2.0, 1e-5)
    assert [limit["limit"]["epsilon"] for limit in book.limits] == [1.0, 2.0]
    assert book.spent() == [Pots(mu2=ONE.mu2 + Fraction(1, 3))]
    assert (book.dataset, book.unit, book.last.number) == ("people", UNIT, 7)
    found = book.charge("b")
    assert found is not None
    assert found.number == 6
    assert book.charge("c") is None


def test_a_run_that_is_charged_again_after_a_void():
    """Settled, the later charge is, not the void one."""
    entries = entries_of(charged("a"), ("void", {"run": "a", "reason": "x"}), charged("a"), ("settle", {"run": "a"}))
    assert [charge.state for charge in read(entries).charges] == ["void", "settled"]
    assert read(entries).spent() == [ONE]


@pytest.mark.parametrize("pots", [Pots(), Pots(mu2=Fraction(1, 3), epsilon=Fraction(7), delta=Fraction(1, 2**120))])
def test_r10_pots_in_an_entry_are_exact(pots):
    """No float on the way into the body and back."""
    assert read(entries_of(charged("a", pots))).charges[0].pots == pots


def touched(entries: list[Entry], digests: list[str]) -> Iterator[tuple[str, list[Entry], list[str]]]:
    """Every single edit, removal, swap and repetition of entries, but for the loss of the last ones."""
    for place, entry in enumerate(entries):
        edits: dict[str, Any] = {
            "dataset": "peoples",
            "number": entry.number + 1,
            "kind": "settle" if entry.kind != "settle" else "charge",
            "body": entry.body.replace("a", "b", 1),
            "before": "0" * 64,
        }
        for field, value in edits.items():
            edited = replace(entry, **{field: value})
            assert edited != entry
            yield f"{field} of {place}", [*entries[:place], edited, *entries[place + 1 :]], digests
        other = [*digests]
        other[place] = digests[place - 1]
        yield f"digest of {place}", entries, other
        yield f"{place} twice", [*entries[:place], entry, *entries[place:]], [*digests[:place], digests[place], *digests[place:]]
        if place < len(entries) - 1:
            yield f"{place} removed", [*entries[:place], *entries[place + 1 :]], [*digests[:place], *digests[place + 1 :]]
    for one, other_ in itertools.combinations(range(len(entries)), 2):
        swapped, others = [*entries], [*digests]
        swapped[one], swapped[other_] = entries[other_], entries[one]
        others[one], others[other_] = digests[other_], digests[one]
        yield f"{one} and {other_} swapped", swapped, others


def test_r8_each_touch_of_an_entry_is_noticed():
    """Also where the digest beside it was made anew, unless every later entry was made anew as well."""
    entries = a_book()
    digests = [entry.digest for entry in entries]
    assert read_book(entries, digests)
    cases = list(touched(entries, digests))
    assert len(cases) > 60
    for _, found, beside in cases:
        with pytest.raises(CheckError, match="is missing or was changed"):
            read_book(found, beside)
        last_alone = found[:-1] == entries[:-1] and found[-1].kind != "open"
        if not last_alone or len(found) != len(entries):
            with pytest.raises(CheckError, match="restore the ledger"):
                read_book(found, [entry.digest for entry in found])


def test_r8_an_entry_of_another_book_is_noticed():
    """Put in its place with its own digest."""
    entries, others = a_book(), entries_of(*[charged(f"x{number}", Pots()) for number in range(6)])
    for place in range(len(entries) - 1):
        mixed = [*entries]
        mixed[place] = others[place]
        if mixed != entries and place:
            with pytest.raises(CheckError):
                read(mixed)
    with pytest.raises(CheckError):
        read([*entries, others[-1]])


def test_a_digest_covers_every_field():
    """And fields cannot flow into one another."""
    entry = Entry(dataset="people", number=1, kind="open", body="{}", before="")
    edits: list[dict[str, Any]] = [{"dataset": "p"}, {"number": 11}, {"kind": "limit"}, {"body": "{ }"}, {"before": "a"}]
    digests = {replace(entry, **edit).digest for edit in edits} | {entry.digest}
    assert len(digests) == 6
    assert replace(entry, number=12, dataset="a").digest != replace(entry, number=2, dataset="a\n1").digest


offsets = st.integers(0, 25)
windows = st.none() | st.tuples(offsets, offsets).map(lambda pair: days(min(pair), max(pair)))
charges = st.lists(st.tuples(windows, st.integers(1, 5), st.booleans()), max_size=12)


def by_day(made: Sequence[tuple[Window | None, int, bool]], day: datetime.date) -> Pots:
    """The plain model: what counts on a day."""
    counting = [size for window, size, void in made if not void and (window is None or window[0] <= day <= window[1])]
    return ONE.times(sum(counting))


def a_book_of(made: Sequence[tuple[Window | None, int, bool]]) -> Book:
    added: list[tuple[Kind, dict[str, Any]]] = []
    for number, (window, size, void) in enumerate(made):
        added.append(charged(f"r{number}", ONE.times(size), window))
        if void:
            added.append(("void", {"run": f"r{number}", "reason": "x"}))
    return read(entries_of(*added))


@given(charges, windows, st.integers(0, 5))
@FACTS
def test_windows_add_up_like_days(made, window, size):
    """What is spent in the stretches of a window is what is spent on its days; a charge fits if it does on each of them."""
    book = a_book_of(made)
    first, last = window or (FIRST - datetime.timedelta(1), FIRST + datetime.timedelta(27))
    model = [by_day(made, first + datetime.timedelta(day)) for day in range((last - first).days + 1)]
    assert set(book.spent(window)) == set(model)
    assert book.part(window) == max(map(LIMIT.part, model))
    assert book.fits(ONE.times(size), window) == all(LIMIT.admits(spent + ONE.times(size)) for spent in model)


def test_windows_that_touch():
    """The 1st to the 3rd and the 3rd to the 5th share a day; from the 4th they do not."""
    made = [(days(0, 2), 4, False)]
    assert not a_book_of(made).fits(ONE, days(2, 4))
    assert not a_book_of(made).fits(ONE, None)
    assert a_book_of(made).fits(ONE.times(4), days(3, 4))
    assert a_book_of([*made, (None, 1, True)]).fits(ONE.times(4), days(3, 4))
    assert not a_book_of([*made, (None, 1, False)]).fits(ONE.times(4), days(3, 4))


def test_windows_at_the_ends_of_the_calendar():
    """The first and the last date there are."""
    ends = (datetime.date.min, datetime.date.max)
    for window in (ends, (ends[0], ends[0]), (ends[1], ends[1])):
        book = a_book_of([(window, 4, False)])
        assert not book.fits(ONE, window)
        assert not book.fits(ONE, ends)
        assert not book.fits(ONE, None)
        assert book.fits(ONE, days(0, 1)) == (window != ends)


def test_where_two_configs_differ():
    """Paths to what was changed, added or removed."""
    old = {"a": 1, "b": [1, {"c": 2}], "d": {"e": 1}, "f": [1]}
    new = {"a": 1, "b": [1, {"c": 3}], "d": {}, "f": [1, 2], "g": 0}
    assert list(changed(old, new)) == ["b[1].c", "d.e", "f", "g"]
    assert list(changed(old, old)) == []
