"""What may be done with a ledger: reserve before anything is read, settle after publishing, and nothing that gives back."""

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from ledger.book import Book, Charge, Window, pots_json, read_book, read_charge
from ledger.entries import Entry, Kind, changed, next_entry
from ledger.store import Store, missing
from privacy.pots import Limit, Pots
from transforms.errors import BudgetError, CheckError, ConfigError

DEFAULT_LIMIT = Limit(epsilon=10.0, delta=1e-5)
"""Of a dataset whose config declares none."""

_TRIES = 10_000

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run that wants to spend.

    Attributes:
        unit: who is protected, as JSON values.
        unit_types: of the unit's columns in the files; empty before they were looked at.
        stages: what it will draw, as JSON values.
        inputs: fingerprint of its files. Never published.
        limit: that the config declares, if it does.
        fitting: from a test of costs to the largest epsilon with which a run like this one passes it, if there is one.
    """

    dataset: str
    run: str
    unit: dict[str, Any]
    unit_types: dict[str, str]
    window: Window | None
    pots: Pots
    stages: list[dict[str, Any]]
    config: dict[str, Any]
    config_digest: str
    inputs: str
    limit: Limit | None
    fitting: Callable[[Callable[[Pots], bool]], float | None]


class Ledger:
    """The books of all datasets in one store."""

    def __init__(self, store: Store) -> None:
        """Raises BudgetError: there is none."""
        if not store.exists():
            raise missing(store.name)
        self.store = store
        self._read: dict[str, tuple[tuple[list[Entry], list[str]], Book]] = {}

    @property
    def name(self) -> str:
        """Where it is, without a password."""
        return self.store.name

    def book(self, dataset: str) -> Book | None:
        """The book of a dataset; None where nothing was ever charged.

        Raises:
            CheckError: entries are missing or were changed.
        """
        rows = self.store.entries(dataset)
        if not rows[0]:
            return None
        if dataset not in self._read or self._read[dataset][0] != rows:
            self._read[dataset] = rows, read_book(*rows)
        return self._read[dataset][1]

    def books(self) -> list[Book]:
        """The books of all datasets, by name."""
        found = (self.book(dataset) for dataset in self.store.datasets())
        return [book for book in found if book is not None]

    def reserve(self, request: Request) -> Charge:
        """Charges a run, or finds its charge where it died before.

        Raises:
            BudgetError: it does not fit, or protects others than the runs before it.
            ConfigError: the run id has a charge for another config or input; or the config's limit is not the ledger's.
        """

        def charged(book: Book | None) -> tuple[list[Entry], Charge]:
            known = self.check(request, book)
            entries = [] if known is not None else self._entries(request, book)
            return entries, known or read_charge(entries[-1])

        return self._append(request.dataset, charged)

    def check(self, request: Request, book: Book | None) -> Charge | None:
        """Raises what `reserve` would raise now. Returns the charge that the run has already, if it died before."""
        if book is None:
            limit = request.limit or DEFAULT_LIMIT
            if not limit.admits(request.pots):
                raise BudgetError(self._too_much(request, limit, 0.0, limit.admits))
            return None
        differing = [key for key in request.unit if book.unit.get(key) != request.unit[key]]
        if request.unit_types and book.charges and book.charges[0].content["unit_types"] != request.unit_types:
            differing.append("types")
        if differing:
            raise BudgetError(
                f"ledger {self.name}: dataset {request.dataset} protects another privacy unit ({', '.join(differing)} differs), "
                f"and what is spent on different units cannot be added up; choose another dataset, or the same unit"
            )
        if request.limit is not None and request.limit != book.limit:
            raise ConfigError(
                f"ledger.limit: is epsilon {request.limit.epsilon:g}, delta {request.limit.delta:g}, but the ledger's is epsilon "
                f"{book.limit.epsilon:g}, delta {book.limit.delta:g}; change the ledger's with discreet ledger limit, or this one"
            )
        known = book.charge(request.run)
        if known is not None:
            self._check_same(request, known)
            return known

        def fits(cost: Pots) -> bool:
            return book.fits(cost, request.window)

        if not fits(request.pots):
            raise BudgetError(self._too_much(request, book.limit, book.part(request.window), fits))
        return None

    def draw(self, dataset: str, run: str, draw: str, cost: Pots) -> Charge:
        """Notes the draw that a run publishes, before anything of it is visible. The first one stays.

        Args:
            draw: digest of the record of the draw.
            cost: of the run as it is planned now.

        Raises:
            CheckError: the run has no charge, one of another cost, or another draw.
        """

        def drawn(book: Book | None) -> tuple[list[Entry], Charge]:
            book, charge = self._charged(book, dataset, run)
            if charge.pots != cost:
                raise CheckError(f"run {run}: is charged for other noise, by another version; choose another --run-id")
            if charge.drawn not in (None, draw):
                raise CheckError(f"run {run}: another draw of it may be published; choose another --run-id, which costs anew")
            entry = next_entry(dataset, book.last, "draw", {"run": run, "draw": draw})
            return [entry] if charge.drawn is None else [], charge

        return self._append(dataset, drawn)

    def settle(self, dataset: str, run: str) -> None:
        """Notes that a run has published. Does nothing where that is noted already.

        Raises:
            CheckError: the run has no charge.
        """
        self._close(dataset, run, "settle", {})

    def void(self, dataset: str, run: str, reason: str) -> None:
        """Gives a charge back. Only for a run that is certain to have read nothing."""
        self._close(dataset, run, "void", {"reason": reason})

    def set_limit(self, dataset: str, limit: Limit, reason: str) -> None:
        """Changes the limit of a dataset, for a reason that is kept for ever.

        Raises:
            BudgetError: nothing was ever charged on it.
        """

        def limited(book: Book | None) -> tuple[list[Entry], None]:
            if book is None:
                raise BudgetError(f"ledger {self.name}: nothing was ever charged on dataset {dataset}; correct its name")
            old = book.limit
            if (limit.epsilon - old.epsilon) * (limit.delta - old.delta) < 0:
                raise ConfigError(
                    f"ledger limit: epsilon {limit.epsilon:g}, delta {limit.delta:g} is larger in one and smaller in the other "
                    f"than epsilon {old.epsilon:g}, delta {old.delta:g}; change both in one direction"
                )
            return [next_entry(dataset, book.last, "limit", {"limit": asdict(limit), "reason": reason})], None

        self._append(dataset, limited)

    def _append(self, dataset: str, make: Callable[[Book | None], tuple[list[Entry], T]]) -> T:
        """Adds what is made of the book as it is now, if anything; where somebody else was faster, it is made again.

        Raises:
            BudgetError: somebody else always was.
        """
        for _ in range(_TRIES):
            entries, made = make(self.book(dataset))
            if not entries or self.store.append(entries):
                return made
        raise BudgetError(f"ledger {self.name}: is in use by too many at once; start again")

    def _charged(self, book: Book | None, dataset: str, run: str) -> tuple[Book, Charge]:
        """The book, and the charge of a run that has one.

        Raises:
            CheckError: it has none.
        """
        found = book.charge(run) if book else None
        if book is None or found is None:
            raise CheckError(
                f"ledger {self.name}: has no charge for run {run} of dataset {dataset}, which has drawn; restore the ledger"
            )
        return book, found

    def _close(self, dataset: str, run: str, kind: Kind, content: dict[str, Any]) -> None:
        def closed(book: Book | None) -> tuple[list[Entry], None]:
            book, charge = self._charged(book, dataset, run)
            if charge.state != "reserved" or (kind == "void" and charge.drawn is not None):
                return [], None
            return [next_entry(dataset, book.last, kind, {"run": run} | content)], None

        self._append(dataset, closed)

    def _entries(self, request: Request, book: Book | None) -> list[Entry]:
        """The charge, and before it the opening of a new dataset's book."""
        entries: list[Entry] = []
        last = book.last if book else None
        if last is None:
            limit = request.limit or DEFAULT_LIMIT
            opened = {"unit": request.unit, "limit": asdict(limit)}
            last = next_entry(request.dataset, None, "open", opened)
            entries.append(last)
        window = [day.isoformat() for day in request.window] if request.window else None
        content = {
            "run": request.run,
            "config": json.dumps(request.config),
            "output": request.config["output"]["path"],
            "config_digest": request.config_digest,
            "window": window,
            "unit_types": request.unit_types,
            "stages": json.dumps(request.stages),
            "pots": pots_json(request.pots),
            "inputs": request.inputs,
            "nonce": secrets.token_hex(32),
        }
        return [*entries, next_entry(request.dataset, last, "charge", content)]

    def _check_same(self, request: Request, known: Charge) -> None:
        if known.content["config_digest"] != request.config_digest:
            differences = ", ".join(changed(json.loads(known.content["config"]), request.config))
            raise ConfigError(f"run {request.run}: is charged for another config ({differences}); choose another --run-id")
        if known.state == "settled":
            raise CheckError(
                f"run {request.run}: has published, but its files are gone; restore them, they are never drawn again, or choose "
                f"another --run-id, which costs anew"
            )
        if known.drawn is not None:
            raise CheckError(
                f"run {request.run}: has drawn, but its record is not in this private folder; restore it, a run is never drawn "
                f"again, or choose another --run-id, which costs anew"
            )
        if known.pots != request.pots:
            raise CheckError(f"run {request.run}: is charged for other noise, by another version; choose another --run-id")
        if known.content["inputs"] != request.inputs:
            raise ConfigError(f"run {request.run}: was started on other files (events.files changed); choose another --run-id")

    def _too_much(self, request: Request, limit: Limit, spent: float, fits: Callable[[Pots], bool]) -> str:
        largest = request.fitting(fits)
        cure = "nothing fits any more" if largest is None else f"an epsilon of {largest:.3g} would fit"
        return (
            f"ledger {self.name}: dataset {request.dataset} has spent {spent:.1%} of its limit (epsilon "
            f"{limit.epsilon:g}, delta {limit.delta:g}), and run {request.run} needs another {limit.part(request.pots):.1%}; "
            f"{cure}; lower budget.epsilon, or raise the limit with discreet ledger limit"
        )
