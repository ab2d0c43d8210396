"""What a run asks of a ledger, in tests: small, whole, and with a cost of which exactly so many fit."""

import argparse
import datetime
from fractions import Fraction
from typing import Any

from ledger.book import Window
from ledger.ledger import Request
from pipelines.ledger_commands import run_ledger_command
from privacy.pots import Limit, Pots

LIMIT = Limit(epsilon=1.0, delta=1e-6)
UNIT: dict[str, Any] = {"columns": ["user"], "rows": None, "periods": {}, "spellings": {}}
DAILY = UNIT | {"columns": ["user", "day"]}
FIRST = datetime.date(2024, 1, 1)


def cost_of(count: int, limit: Limit = LIMIT) -> Pots:
    """Of which exactly so many fit into the limit."""
    return Pots(mu2=limit.mu2 * 2 / (2 * count + 1), delta=limit.delta_pot / (100 * count), distance=Fraction(1, 2**80))


def days(first: int, last: int) -> Window:
    """From a day to a day, counted from the first one."""
    return FIRST + datetime.timedelta(first), FIRST + datetime.timedelta(last)


def ask(run: str, pots: Pots | None = None, **others: Any) -> Request:
    """A run on dataset `people`; three of the default cost fit."""
    asked = {
        "dataset": "people",
        "run": run,
        "unit": UNIT,
        "unit_types": {},
        "window": None,
        "pots": cost_of(3) if pots is None else pots,
        "stages": [{"stage": "select", "release": "first"}],
        "config": {"dataset": "people", "output": {"path": "out"}},
        "config_digest": "config",
        "inputs": "files",
        "limit": LIMIT,
        "fitting": lambda fits: None,
    }
    return Request(**asked | others)


def call(url: str, action: str, **others: Any) -> Any:
    """`discreet ledger ...`"""
    return run_ledger_command(
        argparse.Namespace(**{"ledger": url, "config": None, "dataset": None, "action": action} | others)
    ).values
