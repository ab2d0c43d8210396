"""A dataset's book: what its entries come to. Pure; knows nothing of where they are kept."""

import datetime
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from ledger.entries import Entry
from privacy.pots import Limit, Pots
from transforms.errors import CheckError

Window = tuple[datetime.date, datetime.date]
"""The first and the last period that a run is about."""


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one run may spend, or has spent.

    Attributes:
        state: `reserved` (it may have drawn), `settled` (it has published), `void` (it read nothing).
        drawn: digest of the one draw that may be published; None before it is recorded.
        window: the periods that it is about; None for all.
        content: of the entry. `config` and `stages` are JSON texts in it, since few ask for them.
    """

    run: str
    number: int
    digest: str
    state: str
    pots: Pots
    window: Window | None
    content: dict[str, Any]
    drawn: str | None = None


@dataclass(frozen=True, kw_only=True)
class Book:
    """What a dataset's entries come to.

    Attributes:
        unit: who is protected; the same for all runs.
        charges: in their order; of a run id whose charge is void there may be another one later.
        limits: what each entry about the limit says, the first one included.
    """

    dataset: str
    last: Entry
    unit: dict[str, Any]
    limit: Limit
    charges: tuple[Charge, ...]
    limits: tuple[dict[str, Any], ...]

    def charge(self, run: str) -> Charge | None:
        """The charge of a run id, but for void ones."""
        return next((charge for charge in reversed(self.charges) if charge.run == run and charge.state != "void"), None)

    def spent(self, window: Window | None = None) -> list[Pots]:
        """What was spent in each stretch of a window in which the same charges count; without a window, of all time.

        Source: docs/guarantee.md, "Several runs".
        """
        starts, totals = self._stretches
        if window is None:
            return totals
        first, last = (day.toordinal() for day in window)
        return totals[bisect_right(starts, first) - 1 : bisect_right(starts, last)]

    @cached_property
    def _stretches(self) -> tuple[list[int], list[Pots]]:
        """The days on which other charges begin or cease to count, and what was spent from each on. The first is before all."""
        always, begin, cease = Pots(), defaultdict(list), defaultdict(list)
        for charge in self.charges:
            if charge.state == "void":
                continue
            if charge.window is None:
                always += charge.pots
            else:
                begin[charge.window[0].toordinal()].append(charge.pots)
                cease[charge.window[1].toordinal() + 1].append(charge.pots)
        starts, totals = [-1], [always]
        for day in sorted({*begin, *cease}):
            starts.append(day)
            totals.append(sum(begin[day], totals[-1]) - sum(cease[day], Pots()))
        return starts, totals

    def fits(self, cost: Pots, window: Window | None) -> bool:
        """Whether a charge would stay within the limit in each period that it is about."""
        return all(self.limit.admits(spent + cost) for spent in self.spent(window))

    def part(self, window: Window | None = None) -> float:
        """The part of the limit that is spent where most is."""
        return max(self.limit.part(spent) for spent in self.spent(window))

    def runs(self, cost: Pots, window: Window | None) -> int:
        """How many more charges of this cost fit in each period of a window."""
        return min(self.limit.runs(cost, spent) for spent in self.spent(window))

    def epsilon(self) -> float:
        """The epsilon of what was spent, at the limit's delta, where it is largest."""
        largest: list[Pots] = []
        for spent in sorted(set(self.spent()), key=lambda pots: pots.mu2, reverse=True):
            if not any(other.covers(spent) for other in largest):
                largest.append(spent)
        return max(spent.epsilon_at(self.limit.delta) for spent in largest)


def read_book(entries: Sequence[Entry], digests: Sequence[str]) -> Book:
    """The book of a dataset that has entries.

    Args:
        digests: that were kept beside the entries.

    Raises:
        CheckError: an entry is missing, or is not what it was.
    """
    for number, (entry, digest) in enumerate(zip(entries, digests, strict=True), start=1):
        before = entries[number - 2].digest if number > 1 else ""
        if (entry.number, entry.before, entry.digest) != (number, before, digest) or (entry.kind == "open") != (number == 1):
            raise CheckError(
                f"ledger: entry {number} of dataset {entry.dataset} is missing or was changed; restore the ledger from a backup"
            )
    charges: dict[int, Charge] = {}
    open_of: dict[str, int] = {}
    for entry in entries:
        if entry.kind == "charge":
            charges[entry.number] = read_charge(entry)
            open_of[entry.content["run"]] = entry.number
        elif entry.kind in _STATES:
            number = open_of[entry.content["run"]]
            charges[number] = replace(charges[number], state=_STATES[entry.kind])
        elif entry.kind == "draw":
            number = open_of[entry.content["run"]]
            charges[number] = replace(charges[number], drawn=entry.content["draw"])
    limits = [entry.content for entry in entries if entry.kind in ("open", "limit")]
    return Book(
        dataset=entries[0].dataset,
        last=entries[-1],
        unit=entries[0].content["unit"],
        limit=Limit(**limits[-1]["limit"]),
        charges=tuple(charges.values()),
        limits=tuple(limits),
    )


_STATES = {"settle": "settled", "void": "void"}


def read_charge(entry: Entry) -> Charge:
    """The charge that an entry makes."""
    content = entry.content
    window = content["window"]
    return Charge(
        run=content["run"],
        number=entry.number,
        digest=entry.digest,
        state="reserved",
        pots=Pots(**{name: _exact(value) for name, value in content["pots"].items()}),
        window=None if window is None else (datetime.date.fromisoformat(window[0]), datetime.date.fromisoformat(window[1])),
        content=content,
    )


@lru_cache(maxsize=1024)
def _exact(text: str) -> Fraction:
    """A rational from its text. Nightly runs of one config cost the same."""
    return Fraction(text)


def pots_json(pots: Pots) -> dict[str, str]:
    """Pots as exact rationals in texts."""
    return {name: str(value) for name, value in vars(pots).items()}
