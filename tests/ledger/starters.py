"""Many starters at once: what becomes of each, and that exactly so many succeed as fit."""

import multiprocessing
import os
import threading
from collections import Counter
from typing import Any

from ledger.ledger import Ledger
from ledger.store import open_store
from tests.ledger.asking import ask, cost_of

SLOW = bool(os.environ.get("DISCREET_SLOW"))
ROUNDS = 200 if SLOW else 2
PROCESSES, THREADS, FIT = 10, 5, 7


def _starter(url: str, name: str, barrier: Any, results: Any) -> None:
    """One of the starters: in each round it asks for a run of its own, and for one that all of them ask for."""
    for number in range(ROUNDS):
        for dataset, run in ((f"own{number}", name), (f"same{number}", "one")):
            barrier.wait(120)
            try:
                charge = Ledger(open_store(url)).reserve(ask(run, cost_of(FIT), dataset=dataset))
                results.put((dataset, "charged", charge.digest))
            except Exception as error:
                results.put((dataset, type(error).__name__, str(error)))


def _process(url: str, name: str, barrier: Any, results: Any) -> None:
    threads = [threading.Thread(target=_starter, args=(url, f"{name}.{n}", barrier, results)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def start_all(url: str) -> dict[str, list[tuple[str, str]]]:
    """What became of every starter, by round."""
    context = multiprocessing.get_context("fork")
    starters = PROCESSES * THREADS
    barrier, results = context.Barrier(starters), context.SimpleQueue()
    processes = [context.Process(target=_process, args=(url, f"p{n}", barrier, results), daemon=True) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    found: dict[str, list[tuple[str, str]]] = {}
    for _ in range(starters * ROUNDS * 2):
        dataset, *outcome = results.get()
        found.setdefault(dataset, []).append((outcome[0], outcome[1]))
    for process in processes:
        process.join()
    return found


def assert_exactly_so_many(url: str) -> None:
    """In each round as many as fit are charged, the others are refused for the budget, and nothing is spent beyond the limit."""
    found = start_all(url)
    assert len(found) == 2 * ROUNDS
    ledger = Ledger(open_store(url))
    for dataset, outcomes in found.items():
        assert len(outcomes) == PROCESSES * THREADS
        book = ledger.book(dataset)
        assert book is not None
        counts, digests = Counter(kind for kind, _ in outcomes), {text for kind, text in outcomes if kind == "charged"}
        assert digests == {charge.digest for charge in book.charges}
        assert all(map(book.limit.admits, book.spent()))
        if dataset.startswith("own"):
            assert counts == {"charged": FIT, "BudgetError": PROCESSES * THREADS - FIT}, outcomes
            assert book.spent() == [cost_of(FIT).times(FIT)]
        else:
            assert counts == {"charged": PROCESSES * THREADS}, outcomes
            assert (len(book.charges), book.spent()) == (1, [cost_of(FIT)])


def _create(url: str, barrier: Any, made: Any) -> None:
    barrier.wait(60)
    try:
        made.put(open_store(url).create())
    except Exception as error:
        made.put(f"{type(error).__name__}: {error}")


def made_at_once(url: str) -> list[object]:
    """What `create` said to eight processes."""
    context = multiprocessing.get_context("fork")
    barrier, made = context.Barrier(8), context.SimpleQueue()
    processes = [context.Process(target=_create, args=(url, barrier, made)) for _ in range(8)]
    for process in processes:
        process.start()
    found = [made.get() for _ in processes]
    for process in processes:
        process.join()
    return found
