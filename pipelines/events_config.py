"""The part `events` of the config: what is read, what becomes of it, and who is protected."""

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from privacy.fields import LISTED, Column, Columns_, Count, Strict, Text, listed
from transforms.column_types import column_type
from transforms.conditions import OPERATORS


def _check_timezone(timezone: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{timezone!r} is no time zone; write one as Europe/Berlin or UTC") from None
    return timezone


def _check_date(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            pass
    if isinstance(value, datetime.date):
        return value
    raise ValueError(
        f"{value!r} is no date; write one as 2024-12-31" if isinstance(value, str) else "is no date; write 2024-12-31"
    )


def _check_path(path: str) -> str:
    if "\0" in path or path in ("null", "~"):
        raise ValueError(f"{path!r} is no path; write one, or remove the key")
    return path


Path_ = Annotated[str, Field(min_length=1), AfterValidator(_check_path)]
Paths = Annotated[tuple[Path_, ...], BeforeValidator(listed), Field(min_length=1), LISTED]
Timezone = Annotated[str, AfterValidator(_check_timezone)]
Date = Annotated[datetime.date, BeforeValidator(_check_date), WithJsonSchema({"type": "string"})]


class PrivacyUnit(Strict):
    """Who is protected: each value of some columns, or any so many rows. Written as a column, a list of them, or {rows: 10}."""

    columns: tuple[Column, ...] = Field((), description="the columns that identify the unit")
    rows: Annotated[Count, Field(le=2**16)] | None = Field(
        None, description="any so many rows are protected, whoever they are of"
    )

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    {key: schema.pop(key) for key in ("type", "properties", "additionalProperties")},
                ]
            }
        )
    )

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, value: Any) -> Any:
        return {"columns": listed(value)} if isinstance(value, str | list | tuple) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("privacy_unit repeats a column; name each once")
        if self.columns and self.rows is not None:
            raise ValueError("has both columns and rows; write one of them")
        if not self.columns and self.rows is None:
            raise ValueError("is empty; list at least one column, or write {rows: 10}")
        return self

    @model_serializer
    def _short(self) -> Any:
        return list(self.columns) if self.rows is None else {"rows": self.rows}


class LookupConfig(Strict):
    """A left join with a public table."""

    file: Path_ = Field(description="a Parquet file that holds each value of `by` once")
    by: Columns_ = Field(description="the column, or columns, that events and table share")
    columns: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(description="what the events get from the table")

    @field_validator("by")
    @classmethod
    def _check_by(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(by)) < len(by):
            raise ValueError(f"{list(by)} repeats a column; name each once")
        return by


class PeriodConfig(Strict):
    """A derived column: the period that a timestamp is in."""

    truncate: Column = Field(description="a column of timestamps or dates")
    to: Literal["hour", "day", "week", "month", "quarter", "year"] = Field(description="weeks are ISO weeks")
    timezone: Timezone = Field(description="whose days count, such as Europe/Berlin or UTC")


class ConditionConfig(Strict):
    """What a column must be for an event to stay."""

    column: Column
    op: str = Field(description="one of = != < <= > >= in not_in is_null not_null", json_schema_extra={"enum": list(OPERATORS)})
    value: Text | Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        None, description="what it is compared with; a list for in and not_in"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.op not in OPERATORS:
            raise ValueError(f"op {self.op!r} is not known; write one of {' '.join(OPERATORS)}")
        if self.op in ("is_null", "not_null"):
            if self.value is not None:
                raise ValueError(f"{self.op} takes no value; remove it")
        elif self.value is None:
            raise ValueError(f"{self.op} needs a value; add value: ...")
        elif (self.op in ("in", "not_in")) != isinstance(self.value, tuple):
            raise ValueError(f"{self.op} takes {'a list' if isinstance(self.value, str) else 'one value'}; correct value")
        return self


class Window(Strict):
    """The days that a run is about. Events outside are not used."""

    column: Column = Field(description="a column of dates, derived ones included")
    first: Date = Field(alias="from", description="the first date that is in, as 2024-01-01")
    last: Date = Field(alias="to", description="the last date that is in")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"from {self.first} is after to {self.last}; write the first date, then the last")
        return self


class Retain(Strict):
    """How long events may be used: those older than `days` before `as_of` are not."""

    column: Column = Field(description="a column of timestamps or dates")
    days: Annotated[Count, Field(le=36_500)]
    as_of: Date = Field(description="the day that is counted back from, as 2024-12-31 or ${date}")
    timezone: Timezone = Field("UTC", description="whose days count, where timestamps have a zone")

    @property
    def first(self) -> datetime.date:
        """The first day whose events are used."""
        return self.as_of - datetime.timedelta(days=self.days)

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            _ = self.first
        except OverflowError:
            raise ValueError(f"{self.days} days before {self.as_of} is no date; write fewer days") from None
        return self


class Nulls(Strict):
    """What becomes of nulls."""

    unit: Literal["drop"] = Field("drop", description="events without a privacy unit are left out")
    key: Literal["drop", "keep"] = Field("drop", description="events without a key are left out, or null is a key")
    value: Literal["skip", "zero"] = Field("skip", description="a null, NaN or infinite value is left out, or counts as 0")


class CsvConfig(Strict):
    """How CSV files are written."""

    delimiter: str = Field(",", description="one character, or tab")
    decimal: Literal[".", ","] = Field(".", description="what separates the decimals")
    timestamps: Annotated[str | None, Field(min_length=2)] = Field(
        None, description="how timestamps and dates are written, such as %d/%m/%Y; ISO 8601 where omitted"
    )
    encoding: Literal["utf-8", "latin-1", "cp1252"] = "utf-8"

    @field_validator("timestamps")
    @classmethod
    def _check_timestamps(cls, form: str | None) -> str | None:
        parts = set(re.findall("%-?(.|$)", form or ""))
        if form is not None and not (
            parts <= set("YymbBdHIMSfpzaA%") and parts & set("Yy") and parts & set("mbB") and "d" in parts
        ):
            raise ValueError(f"{form!r} is no form of dates; write day, month and year as %d, %m and %Y, such as %d/%m/%Y %H:%M")
        return form

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, delimiter: str) -> str:
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter not in "\t,;|:^~#&!$*":
            raise ValueError(f"{delimiter!r} cannot separate values; write one character such as , ; | or tab")
        return delimiter


def _check_type(text: str) -> str:
    column_type(text)
    return text


Type = Annotated[str, AfterValidator(_check_type)]
Form = Literal["trim", "casefold", "nfc"]
Forms = Annotated[
    tuple[Form, ...],
    BeforeValidator(listed),
    Field(min_length=1),
    WithJsonSchema({"type": "array", "items": {"enum": ["trim", "casefold", "nfc"]}, "minItems": 1}),
]


class Events(Strict):
    """What is read, and who is protected."""

    files: Paths = Field(description="a path, a glob, or a list of them")
    privacy_unit: PrivacyUnit = Field(description="who is protected: a column, a list of columns, or {rows: 10}")
    types: Mapping[Column, Type] = Field(
        default_factory=dict, description="the types of CSV and JSON columns; text where omitted"
    )
    csv: CsvConfig = Field(default_factory=CsvConfig, description="how CSV files are written")
    bad_rows: Literal["drop", "refuse"] = Field(
        "drop", description="lines that cannot be read go to the private quarantine, or end the run (outside of the guarantee)"
    )
    nulls: Nulls = Field(default_factory=Nulls, description="what becomes of nulls")
    normalise: Mapping[Column, Forms] = Field(
        default_factory=dict,
        description="columns of text whose spellings are made one: trim, casefold, nfc, in the order in which they are written",
    )
    lookups: tuple[LookupConfig, ...] = Field((), description="left joins with public tables")
    derive: Mapping[Column, PeriodConfig] = Field(default_factory=dict, description="columns made of timestamps: their periods")
    where: tuple[ConditionConfig, ...] = Field((), description="conditions that all must hold for an event to stay")
    retain: Retain | None = Field(None, description="how old events may be")
    window: Window | None = Field(None, description="the days that a run is about")

    @model_validator(mode="after")
    def _check(self) -> Self:
        made = [column for lookup in self.lookups for column in lookup.columns] + list(self.derive)
        for column in made:
            if made.count(column) > 1:
                raise ValueError(f"lookups and derive make column {column!r} twice; rename one")
        for number, lookup in enumerate(self.lookups):
            later = {column for other in self.lookups[number:] for column in other.columns}
            for by in lookup.by:
                if by in later or by in self.derive:
                    raise ValueError(
                        f"lookups[{number}].by {by!r} is made later; name a column of the files or of a lookup before"
                    )
        for name, period in self.derive.items():
            if period.truncate in self.derive:
                raise ValueError(f"derive.{name} truncates {period.truncate!r}, itself derived; truncate its source")
        if self.window is not None and self.retain is not None and self.window.last < self.retain.first:
            raise ValueError(f"window ends before {self.retain.first}, the first day that retain leaves; correct one of them")
        for column, forms in self.normalise.items():
            if len(set(forms)) < len(forms):
                raise ValueError(f"normalise.{column} repeats a step; write each once")
        return self
