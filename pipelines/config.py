"""The config: one YAML file that says what is read, what is released, and what it may cost."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipelines.faults import sentences
from pipelines.variables import fill_variables
from privacy.metrics.base import Column, Count, Name, Strict
from privacy.release import Budget, Release
from transforms.conditions import OPERATORS
from transforms.errors import ConfigError

Path_ = Annotated[str, Field(min_length=1)]
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class LookupConfig(Strict):
    """A left join with a public table."""

    file: Path_
    by: Column
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]


class PeriodConfig(Strict):
    """A derived column: the period that a timestamp is in."""

    truncate: Column
    to: Literal["hour", "day", "week", "month", "quarter", "year"]
    timezone: str

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{timezone!r} is no time zone; write one as Europe/Berlin or UTC") from None
        return timezone


class ConditionConfig(Strict):
    """What a column must be for an event to stay."""

    column: Column
    op: str
    value: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None

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


def column_type(text: str) -> pa.DataType:
    """The Arrow type that a config names.

    Raises:
        ValueError: there is none.

    >>> column_type("decimal(10,2)")
    Decimal128Type(decimal128(10, 2))
    """
    decimal = re.fullmatch(r"decimal\(([0-9]{1,2}), *([0-9]{1,2})\)", text)
    if decimal and 1 <= int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1]):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if text not in _TYPES:
        raise ValueError(f"{text!r} is no type; write one of {', '.join(_TYPES)}, decimal(10,2)")
    return _TYPES[text]


_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date32": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp(UTC)": pa.timestamp("us", "UTC"),
}


def _check_type(text: str) -> str:
    column_type(text)
    return text


class CsvConfig(Strict):
    """How CSV files are written."""

    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    timestamps: Annotated[str | None, Field(min_length=2)] = None
    encoding: Literal["utf-8", "latin-1", "cp1252"] = "utf-8"

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, delimiter: str) -> str:
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter.isalnum() or delimiter in '"\n\r\x1f.-+':
            raise ValueError(f"{delimiter!r} cannot separate values; write one character such as , ; | or tab")
        return delimiter


class Events(Strict):
    """What is read, and who is protected."""

    files: Annotated[tuple[Path_, ...], Field(min_length=1)]
    privacy_unit: Annotated[tuple[Column, ...], Field(min_length=1)]
    lookups: tuple[LookupConfig, ...] = ()
    derive: Mapping[Column, PeriodConfig] = Field(default_factory=dict)
    where: tuple[ConditionConfig, ...] = ()
    csv: CsvConfig = CsvConfig()
    types: Mapping[Column, Annotated[str, AfterValidator(_check_type)]] = Field(default_factory=dict)
    bad_rows: Literal["drop", "refuse"] = "drop"

    _lists = field_validator("files", "privacy_unit", mode="before")(_listed)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.privacy_unit)) < len(self.privacy_unit):
            raise ValueError("privacy_unit repeats a column; name each once")
        made = [column for lookup in self.lookups for column in lookup.columns] + list(self.derive)
        for column in made:
            if made.count(column) > 1:
                raise ValueError(f"lookups and derive make column {column!r} twice; rename one")
        for number, lookup in enumerate(self.lookups):
            later = {column for other in self.lookups[number:] for column in other.columns}
            if lookup.by in later or lookup.by in self.derive:
                raise ValueError(
                    f"lookups[{number}].by {lookup.by!r} is made later; name a column of the files or of a lookup before"
                )
        for name, period in self.derive.items():
            if period.truncate in self.derive:
                raise ValueError(f"derive.{name} truncates {period.truncate!r}, itself derived; truncate its source")
        return self


class Output(Strict):
    """Where releases go, in how many files each, and where the private folder is."""

    path: Path_
    files: Annotated[Count, Field(le=10_000)] = 1
    private: Path_ | None = None


class Config(Strict):
    """The whole config."""

    version: Literal["1"]
    dataset: Name
    events: Events
    budget: Budget
    releases: Annotated[tuple[Release, ...], Field(min_length=1)]
    output: Output

    @field_validator("version", mode="before")
    @classmethod
    def _text(cls, version: Any) -> Any:
        return str(version)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [release.name for release in self.releases]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two releases are called {name!r}; rename one")
        return self

    @property
    def private_path(self) -> str:
        """The private folder."""
        return self.output.private or self.output.path.rstrip("/") + ".private"

    def resolved(self) -> dict[str, Any]:
        """The config with every default filled in, as JSON values."""
        resolved = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        resolved["output"]["private"] = self.private_path
        for release, described in zip(self.releases, resolved["releases"], strict=True):
            if release.selection is not None:
                described["select"] = release.selection.model_dump(mode="json")
        return resolved

    def digest(self) -> str:
        """SHA-256 of the resolved config, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()


def load_config(path: str, variables: Mapping[str, str], output: str | None = None) -> Config:
    """Reads and checks a config.

    Args:
        variables: what `${name}` stands for in files, paths and values of conditions.
        output: replaces `output.path`.

    Raises:
        ConfigError: with one sentence a fault: where, value, rule, cure.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); name a YAML file in UTF-8") from None
    return parse_config(text, variables, output, name=path)


def parse_config(
    text: str, variables: Mapping[str, str] | None = None, output: str | None = None, name: str = "config"
) -> Config:
    """Like `load_config`, from the text of the file."""
    # Every scalar stays the text that was written: NO, 007 and 1e-6 get their meaning from the field they are in.
    reader = YAML(typ="base", pure=True)
    try:
        tree = reader.load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = (error.problem or "it cannot be parsed").splitlines()[0]
        raise ConfigError(f"{name}{line}: this is no YAML 1.2: {problem}; correct it there") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: this is no YAML 1.2 ({type(error).__name__}); correct it") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: holds no mapping; start with version: 1")
    fill_variables(tree, dict(variables or {}), name)
    if output is not None and isinstance(tree.get("output"), dict):
        tree["output"]["path"] = output
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(sentences(error, _known_keys()))) from None


def changed(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The places at which two resolved configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from changed(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from changed(before, after, f"{where}[{number}]")
    elif old != new:
        yield where


def _known_keys() -> list[str]:
    """Every key that a config may have."""
    schema = Config.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})})
