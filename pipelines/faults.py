"""What is wrong with a config, one sentence a fault: where, value, rule, cure."""

import difflib
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_RULES = {
    "missing": "is missing; add it",
    "greater_than": "must be above {gt}; write a larger number",
    "greater_than_equal": "must be at least {ge}; write a larger number",
    "less_than": "must be below {lt}; write a smaller number",
    "less_than_equal": "must be at most {le}; write a smaller number",
    "finite_number": "is not finite; write a number",
    "float_parsing": "is no number; write a number",
    "float_type": "is no number; write a number",
    "int_parsing": "is no whole number; write a whole number",
    "int_type": "is no whole number; write a whole number",
    "int_parsing_size": "is too large; write a smaller number",
    "int_from_float": "is no whole number; write a whole number",
    "string_type": "is no text; write one value",
    "string_too_short": "is empty; write a value",
    "too_short": "is empty; list at least one",
    "too_long": "has too many entries; list fewer",
    "tuple_type": "is no list; write [..]",
    "dict_type": "is no mapping; write key: value",
    "model_type": "is no mapping; write key: value",
    "model_attributes_type": "is no mapping; write key: value",
    "literal_error": "is not known; write {expected}",
}


def sentences(error: ValidationError, known: Iterable[str]) -> list[str]:
    """The faults that pydantic found, each once.

    Args:
        known: every key that a config may have, for "did you mean".
    """
    # Where all entries of a list are wrong, pydantic adds that it is empty.
    faults = [fault for fault in error.errors() if fault["type"] != "too_short" or not fault["input"]]
    return list(dict.fromkeys(_sentence(fault, known) for fault in faults))


def _sentence(error: ErrorDetails, known: Iterable[str]) -> str:
    """One fault as where: value rule; cure."""
    where = ""
    for part in error["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        if key in known:
            return f"{where}: is not a key here; remove it or move it"
        close = difflib.get_close_matches(key, known, 1)
        cure = f"did you mean {close[0]}?" if close else "remove it or correct its name"
        return f"{where}: is not a key that this version knows; {cure}"
    if kind == "value_error":
        message = str(error.get("ctx", {}).get("error", error["msg"]))
    elif kind in _RULES:
        message = _RULES[kind].format(**error.get("ctx", {}))
        if kind != "missing" and isinstance(value, str | int | float):
            message = f"{value!r} {message}"
    else:
        message = error["msg"]
    return f"{where}: {message}" if where else message
