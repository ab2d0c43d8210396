"""Fields of the config: what may be written in each, and what is said where something else is."""

import re
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_LONGEST_NAME = 100
NAME_RULE = "must start with a letter and hold only lower-case letters, digits and _"


def _check_name(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"{name[:20]!r}... has {len(name)} letters; write at most {_LONGEST_NAME}")
    if not name.isascii() or not name[:1].isalpha() or name != name.lower() or not name.replace("_", "a").isalnum():
        raise ValueError(f"{name!r} {NAME_RULE}; write for example 'monthly_sales'")
    return name


def _check_clip(clip: tuple[float, float]) -> tuple[float, float]:
    low, high = clip
    shown = f"[{low:g}, {high:g}]"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{shown} is not finite; write the smallest and largest sensible value")
    if low > high:
        raise ValueError(f"{shown} is reversed; write [low, high]")
    if low == high:
        raise ValueError(f"{shown} is empty; low must be below high")
    if max(abs(low), abs(high)) > 1e30 or high - low < 1e-30 or high - low < 1e-9 * max(abs(low), abs(high)):
        raise ValueError(f"{shown} is too large or too narrow; its ends must be within +-1e30 and apart from each other")
    return clip


def _check_number(value: object) -> object:
    if isinstance(value, str) and _NOT_FINITE.fullmatch(value):
        raise ValueError(f"{value!r} is not finite; write a number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is no number; write a number, such as 0.5 or 1.0e-6")
    return value


def _check_end(value: object) -> object:
    # Ends that are not finite are told by _check_clip, which shows both.
    return value if isinstance(value, str) and _NOT_FINITE.fullmatch(value) else _check_number(value)


def listed(value: object) -> object:
    """One text as a list of it."""
    return [value] if isinstance(value, str) else value


def _check_whole(value: object) -> object:
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError(f"{value!r} is no whole number; write a whole number")
    return value


def _check_flag(value: object) -> object:
    if value not in (True, False, "true", "false"):
        raise ValueError(f"{value!r} is neither true nor false; write true or false")
    return value


OPEN = "?"
"""What a first config has in place of a column that only its user can name."""


def _check_answered(column: str) -> str:
    if column == OPEN:
        raise ValueError(f"{OPEN!r} is a question that is open; write the name of a column")
    return column


_NOT_FINITE = re.compile(r"[-+]?\.?(inf|nan|infinity)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9]+")

Number = Annotated[float, BeforeValidator(_check_number)]
Name = Annotated[str, AfterValidator(_check_name)]
Share = Annotated[Number, Field(gt=0, le=1e6, ge=1e-6, allow_inf_nan=False)]
Text = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""One value, as it is written: the config's reader makes text of everything."""
End = Annotated[float, BeforeValidator(_check_end)]
Clip = Annotated[tuple[End, End], AfterValidator(_check_clip)]
Column = Annotated[str, Field(min_length=1), AfterValidator(_check_answered)]
LISTED = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]})
Columns_ = Annotated[tuple[Column, ...], BeforeValidator(listed), Field(min_length=1), LISTED]
"""One column, or a list of them."""
Count = Annotated[int, BeforeValidator(_check_whole), Field(ge=1)]


Flag = Annotated[bool, BeforeValidator(_check_flag)]


class Strict(BaseModel):
    """A part of the config: unknown keys are errors, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
