"""What is wrong with a config, one sentence a fault: where, value, rule, cure."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

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

_SHAPES = ("too_long", "too_short", "tuple_type", "dict_type", "model_type", "model_attributes_type")

_FORMS = {
    "clip": "[0, 12.5]",
    "keys": "{columns: [shop]}",
    "budget": "{epsilon: 1, delta: 1.0e-6}",
    "bounds": "{keys_per_unit: 4, rows_per_key: 5}",
    "output": "{path: out/sales}",
    "pairs": "{of: product, within: basket}",
}
"""How parts of the config are written."""


_INTERNAL = re.compile(r"str|tuple\[.*|\[key\]")
"""Parts of a place that are pydantic's own."""

_MOST_SENTENCES = 20
_LONGEST_VALUE = 60


def sentences(error: ValidationError, schema: Mapping[str, Any]) -> list[str]:
    """The faults that pydantic found, each once.

    Args:
        schema: JSON Schema of the config, for "did you mean".
    """
    # Where all entries of a list are wrong, pydantic adds that it is empty.
    faults = [fault for fault in error.errors() if fault["type"] != "too_short" or not fault["input"]]
    found = list(dict.fromkeys(_sentence(fault, schema) for fault in faults))
    more = len(found) - _MOST_SENTENCES
    return found if more <= 0 else [*found[:_MOST_SENTENCES], f"config: has {more} more faults like these; correct these first"]


def _sentence(error: ErrorDetails, schema: Mapping[str, Any]) -> str:
    """One fault as where: value rule; cure."""
    internal = [isinstance(part, str) and bool(_INTERNAL.fullmatch(part)) for part in error["loc"]]
    loc = error["loc"][: internal.index(True)] if any(internal) else error["loc"]
    # Pydantic puts the kind of a metric into its place.
    loc = tuple(part for number, part in enumerate(loc) if loc[max(number - 2, 0)] != "metrics" or number < 2)
    where = ""
    for part in loc:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        key = str(loc[-1])
        if any(key in part.get("properties", {}) for part in (schema, *schema["$defs"].values())):
            return f"{where}: is not a key here; remove it or move it"
        close = difflib.get_close_matches(key, _keys_at(schema, loc[:-1]), 1)
        cure = f"did you mean {close[0]}?" if close else "remove it or correct its name"
        return f"{where}: is not a key that this version knows; {cure}"
    if kind == "value_error":
        message = str(error.get("ctx", {}).get("error", error["msg"]))
    elif any(internal) and loc[-1] == "value":
        message = "does not fit here; write one value, or a list of values for in and not_in"
    elif kind in _SHAPES and loc and loc[-1] in _FORMS:
        message = _shown(value, f"does not fit here; write {loc[-1]}: {_FORMS[str(loc[-1])]}")
    elif kind in _RULES:
        message = _RULES[kind].format(**error.get("ctx", {}))
        private = loc[0] == "ledger" and loc[1:] in ((), ("url",))  # a URL may hold a password
        message = message if kind == "missing" or private else _shown(value, message)
    else:
        message = error["msg"]
    return f"{where}: {message}" if where else message


def _shown(value: Any, message: str) -> str:
    """A message after the value that it is about, where that is a single one."""
    if not isinstance(value, str | int | float):
        return message
    return f"{repr(value)[:_LONGEST_VALUE]}{'...' if len(repr(value)) > _LONGEST_VALUE else ''} {message}"


def _keys_at(schema: Mapping[str, Any], loc: Iterable[int | str]) -> list[str]:
    """The keys that may be at a place of the config."""

    def alternatives(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        if "$ref" in node:
            return alternatives(schema["$defs"][node["$ref"].rpartition("/")[2]])
        others = [*node.get("anyOf", ()), *node.get("oneOf", ())]
        return [node, *(found for other in others for found in alternatives(other))]

    nodes = alternatives(schema)
    for part in loc:
        children = (
            node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part, node.get("additionalProperties"))
            for node in nodes
        )
        # The kind of a metric is part of its place for pydantic, not for the schema.
        found = [node for child in children if isinstance(child, Mapping) for node in alternatives(child)]
        nodes = found if any(node.keys() & {"properties", "items", "additionalProperties"} for node in found) else nodes
    return sorted({key for node in nodes for key in node.get("properties", {})})
