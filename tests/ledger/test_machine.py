"""Whatever is done with a ledger, in whatever order, by processes that die: a plain model of it, and the two never differ."""

import argparse
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.book import Window
from ledger.ledger import Ledger
from ledger.store import open_store
from pipelines.ledger_commands import run_ledger_command
from privacy.pots import Limit, Pots
from tests.ledger.asking import DAILY, FIRST, LIMIT, UNIT, ask, days
from transforms.errors import BudgetError, CheckError, ConfigError

SLOW = bool(os.environ.get("DISCREET_SLOW"))
EXAMPLES = 2000 if SLOW else 200

DATASETS, RUNS, DAYS = ("people", "shops"), tuple("abcde"), 6
LIMITS = [LIMIT, Limit(epsilon=0.5, delta=1e-6), Limit(epsilon=2.0, delta=1e-5)]
SIZES = {  # by parts of the first limit: the one or the other pot fills first
    "none": Pots(mu2=Fraction(1, 2**120)),
    "a quarter": Pots(mu2=LIMIT.mu2 / 4, delta=LIMIT.delta_pot / 100),
    "a third of delta": Pots(mu2=LIMIT.mu2 / 100, delta=LIMIT.delta_pot / 3),
    "all": Pots(mu2=LIMIT.mu2),
    "more": Pots(mu2=LIMIT.mu2 * 2),
}

datasets, runs, sizes = st.sampled_from(DATASETS), st.sampled_from(RUNS), st.sampled_from(list(SIZES))
windows = st.none() | st.tuples(st.integers(0, DAYS - 1), st.integers(0, DAYS - 1)).map(lambda p: days(min(p), max(p)))


@dataclass(frozen=True)
class Charged:
    """A charge in the model."""

    run: str
    size: str
    window: Window | None
    config: str
    digest: str
    state: str = "reserved"

    def counts_on(self, day: int) -> bool:
        return self.state != "void" and (self.window is None or self.window[0] <= days(day, day)[0] <= self.window[1])


class Ledgers(RuleBasedStateMachine):
    """A ledger in a file, and lists of what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        self.copies = 0
        self.limits: dict[str, list[Limit]] = {}
        self.charges: dict[str, list[Charged]] = {name: [] for name in DATASETS}
        self.units: dict[str, object] = {}
        self.entries: dict[str, int] = dict.fromkeys(DATASETS, 0)
        self.touched = set(DATASETS)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/{self.copies}.db"

    @initialize()
    def make(self) -> None:
        (self.folder / "0.db").write_bytes(EMPTY)
        self.ledger = Ledger(open_store(self.url))

    def spent_on(self, dataset: str, day: int) -> Pots:
        total = Pots()
        for charge in self.charges[dataset]:
            if charge.counts_on(day):
                total += SIZES[charge.size]
        return total

    def room_for(self, dataset: str, size: str, window: Window | None) -> bool:
        """Day by day, one day beyond those of any window included: within both pots of the limit as it is now."""
        limit = self.limits[dataset][-1] if self.limits.get(dataset) else LIMIT
        first, last = (0, DAYS) if window is None else ((window[0] - FIRST).days, (window[1] - FIRST).days)
        for day in range(first, last + 1):
            after = self.spent_on(dataset, day) + SIZES[size]
            if after.mu2 > limit.mu2 or after.delta > limit.delta_pot:
                return False
        return True

    def live(self, dataset: str, run: str) -> Charged | None:
        return next((charge for charge in self.charges[dataset] if charge.run == run and charge.state != "void"), None)

    def change(self, dataset: str, run: str, state: str) -> None:
        """What the model's charge becomes; only a reserved one becomes anything."""
        known = self.live(dataset, run)
        if known is not None and known.state == "reserved":
            place = self.charges[dataset].index(known)
            self.charges[dataset][place] = replace(known, state=state)
            self.entries[dataset] += 1

    @rule(dataset=datasets, run=runs, size=sizes, window=windows, config=st.sampled_from("xy"), same_unit=st.integers(0, 9))
    def reserve(self, dataset: str, run: str, size: str, window: Window | None, config: str, same_unit: int) -> None:
        """A run asks: a retry where it is charged already, and a start otherwise."""
        self.touched = {dataset}
        known = self.live(dataset, run)
        if known is not None and config == known.config:
            size, window = known.size, known.window  # they follow from the config
        unit = DAILY if same_unit else UNIT
        asked = ask(run, SIZES[size], dataset=dataset, unit=unit, window=window, config_digest=config, limit=None)
        if self.limits.get(dataset) is None:
            asked = replace(asked, limit=LIMIT)
        try:
            charge = self.ledger.reserve(asked)
        except ConfigError:
            assert known is not None
            assert known.config != config
        except CheckError:
            assert known is not None
            assert known.state == "settled"
        except BudgetError as error:
            if "privacy unit" in str(error):
                assert unit is not self.units[dataset]
            else:
                assert known is None
                assert not self.room_for(dataset, size, window)
        else:
            if known is not None:
                assert (known.state, known.config, known.digest) == ("reserved", config, charge.digest)
                return
            assert unit is self.units.get(dataset, unit)
            assert self.room_for(dataset, size, window)
            if dataset not in self.limits:
                self.limits[dataset], self.entries[dataset], self.units[dataset] = [LIMIT], 1, unit
            self.charges[dataset].append(Charged(run, size, window, config, charge.digest))
            self.entries[dataset] += 1

    @rule(dataset=datasets, run=runs)
    def settle(self, dataset: str, run: str) -> None:
        self.close(dataset, run, "settled")

    @rule(dataset=datasets, run=runs)
    def void(self, dataset: str, run: str) -> None:
        self.close(dataset, run, "void")

    def close(self, dataset: str, run: str, state: str) -> None:
        """Nothing that was never charged can be closed."""

        def call() -> None:
            if state == "settled":
                self.ledger.settle(dataset, run)
            else:
                self.ledger.void(dataset, run, "read nothing")

        self.touched = {dataset}
        if self.live(dataset, run) is None:
            with pytest.raises((BudgetError, CheckError)):
                call()
        else:
            call()
        self.change(dataset, run, state)

    @rule()
    def crash(self) -> None:
        """A process dies: what it had in memory is lost."""
        self.ledger, self.touched = Ledger(open_store(self.url)), set()

    @rule(dataset=datasets, limit=st.sampled_from(LIMITS))
    def set_limit(self, dataset: str, limit: Limit) -> None:
        self.touched = {dataset}
        if dataset not in self.limits:
            with pytest.raises(BudgetError):
                self.ledger.set_limit(dataset, limit, "why")
            return
        self.ledger.set_limit(dataset, limit, "why")
        self.limits[dataset].append(limit)
        self.entries[dataset] += 1

    @precondition(lambda self: self.copies < 2)
    @rule()
    def copy(self) -> None:
        """Into another ledger, which is the one from now on."""
        source = self.url
        self.copies += 1
        run_ledger_command(argparse.Namespace(ledger=source, config=None, dataset=None, action="copy", to=self.url))
        self.ledger, self.touched = Ledger(open_store(self.url)), set(DATASETS)

    @invariant()
    def nothing_is_lost_and_nothing_double(self) -> None:
        """Charges in their order, states, limits, the number of entries, and what is spent on each day."""
        for dataset in self.touched:
            book = Ledger(open_store(self.url)).book(dataset)
            if dataset not in self.limits:
                assert book is None
                continue
            assert book is not None
            assert book.last.number == self.entries[dataset]
            assert [(charge.run, charge.state, charge.window, charge.digest) for charge in book.charges] == [
                (charge.run, charge.state, charge.window, charge.digest) for charge in self.charges[dataset]
            ]
            assert [limit["limit"]["epsilon"] for limit in book.limits] == [limit.epsilon for limit in self.limits[dataset]]
            for day in range(DAYS + 1):
                assert book.spent(days(day, day)) == [self.spent_on(dataset, day)]
            settled = [charge.run for charge in book.charges if charge.state != "void"]
            assert len(settled) == len(set(settled))


@pytest.mark.usefixtures("made")
class TestLedgers(Ledgers.TestCase):
    """The machine, as a test."""

    settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=30 if SLOW else 20,
        deadline=None,
        derandomize=not SLOW,
        suppress_health_check=list(HealthCheck),
    )


EMPTY = b""


@pytest.fixture(scope="module")
def made(empty: bytes) -> None:
    """The file of an empty ledger, for the machine."""
    global EMPTY
    EMPTY = empty
