"""Errors that a user meets: each has an exit status, and a message that holds no key, id or value from the data."""

from enum import IntEnum


class Status(IntEnum):
    """Exit statuses, a public contract."""

    PUBLISHED = 0
    FAULT = 1
    CONFIG = 2
    BUDGET = 3
    INPUT = 4
    RUNNER = 5
    CHECK = 6
    INTERRUPTED = 130
    TERMINATED = 143


class DiscreetError(Exception):
    """Something that the user can read and act on."""

    status = Status.FAULT


class ConfigError(DiscreetError):
    """The config or the call is wrong."""

    status = Status.CONFIG


class BudgetError(DiscreetError):
    """The budget refuses."""

    status = Status.BUDGET


class InputError(DiscreetError):
    """The input cannot be used."""

    status = Status.INPUT


class RunnerError(DiscreetError):
    """The runner or the storage failed."""

    status = Status.RUNNER


class CheckError(DiscreetError):
    """A check failed: records do not fit together."""

    status = Status.CHECK
