"""The ledger: what was spent, on what, for ever."""
