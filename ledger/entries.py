"""Entries of the ledger: only ever appended, each holding the digest of the one before it."""

import datetime
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Kind = Literal["open", "limit", "charge", "draw", "settle", "void"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that happened to a dataset's budget.

    Attributes:
        number: 1 for the first of its dataset; each is one more than the one before.
        kind: `open` (unit and limit of a new dataset), `limit` (another limit, and why), `charge` (a run may spend), `draw`
            (this is the draw that it publishes), `settle` (it has published), `void` (it read nothing, and spent nothing).
        body: JSON.
        before: digest of the entry before; empty for the first.
    """

    dataset: str
    number: int
    kind: str
    body: str
    before: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all fields, in hexadecimal."""
        parts = (self.dataset, self.number, self.kind, self.before, self.body)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the body says."""
        content: dict[str, Any] = json.loads(self.body)
        return content


def next_entry(dataset: str, last: Entry | None, kind: Kind, content: dict[str, Any]) -> Entry:
    """An entry after the last one. The time is for readers only: nothing follows from it."""
    stamped = content | {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    return Entry(
        dataset=dataset,
        number=1 if last is None else last.number + 1,
        kind=kind,
        body=json.dumps(stamped, sort_keys=True, separators=(",", ":")),
        before="" if last is None else last.digest,
    )


def changed(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The places at which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from changed(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from changed(before, after, f"{where}[{number}]")
    elif old != new:
        yield where
