"""Which ledger is meant where none is named."""

from pathlib import Path

VARIABLE = "DISCREET_LEDGER"
"""The environment's variable that says where the ledger is, where the config does not."""


def default_path(config_path: str) -> Path:
    """Where the ledger of a config is if nothing says otherwise."""
    path = Path(config_path).resolve().parent / ".discreet" / "ledger.db"
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
