"""The config: one YAML file that says what is read, what is released, and what it may cost."""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipelines.events_config import Events, Path_
from pipelines.faults import sentences
from pipelines.variables import fill_variables
from privacy.fields import Count, Name, Number, Strict
from privacy.pots import Limit
from privacy.release import Budget, Release
from transforms.errors import ConfigError

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _check_folder(path: str) -> str:
    if "://" in path:
        raise ValueError(f"{path!r} is not a local folder; this version publishes to local folders only, copy from there")
    if path.startswith("~"):
        raise ValueError(f"{path!r} begins with ~, which stands for nothing here; write the whole path")
    return path


Folder = Annotated[Path_, AfterValidator(_check_folder)]


class Output(Strict):
    """Where releases go, in how many files each, and where the private folder is."""

    path: Folder = Field(description="the folder to publish in")
    files: Annotated[Count, Field(le=10_000)] = Field(1, description="Parquet files of each release")
    private: Folder | None = Field(None, description="where a run keeps its work, and bad lines; <path>.private where omitted")


class LimitConfig(Budget):
    """What all runs on the dataset may spend together, for ever."""

    delta: Annotated[Number, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        description="how improbable it is that epsilon fails; well below 1 / number of units"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not Limit(epsilon=self.epsilon, delta=self.delta).leaves_room:
            raise ValueError(f"epsilon {self.epsilon:g}, delta {self.delta:g} leaves room for nothing; write larger ones")
        return self


class LedgerConfig(Strict):
    """Where it is kept what runs spend. Changes no number that is published."""

    url: Path_ | None = Field(None, description="sqlite:///ledger.db, gs://bucket/ledger/ ..; beside the config where omitted")
    limit: LimitConfig | None = Field(
        None, description="for a dataset that is new in the ledger; epsilon 10, delta 1e-5 if omitted"
    )


class Config(Strict):
    """The whole config."""

    version: Annotated[Literal["1"], WithJsonSchema({"enum": [1, "1"]})] = Field(description="of the config's form")
    dataset: Name = Field(description="whose budget this spends")
    events: Events
    budget: Budget
    releases: Annotated[tuple[Release, ...], Field(min_length=1)] = Field(description="the output tables")
    output: Output
    ledger: LedgerConfig | None = None

    @field_validator("version", mode="before")
    @classmethod
    def _text(cls, version: Any) -> Any:
        return str(version)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [release.name for release in self.releases]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"releases: two are called {name!r}; rename one")
        unit = self.events.privacy_unit.columns
        for number, release in enumerate(self.releases):
            self._check_bounds(release, f"releases[{number}]")
            self._check_delta(release, f"releases[{number}]")
            if release.pairs is not None and (not unit or release.pairs.of in unit):
                cure = f"name a column of which a unit has several values, not {release.pairs.of!r}"
                raise ValueError(
                    f"releases[{number}].pairs: needs a privacy unit with several events; "
                    f"{cure if unit else 'write columns in privacy_unit, not rows'}"
                )
            alone = set(unit) <= set(release.keys.columns) and not set(unit) <= set(release.keys.values or ())
            if unit and release.keys.private and alone:
                raise ValueError(
                    f"releases[{number}].keys.columns: hold the privacy unit, so each key has one unit and none could appear; "
                    f"name columns that many units share"
                )
        return self

    def _check_bounds(self, release: Release, where: str) -> None:
        """A unit that is so many rows has its bounds by itself; any other must be given them."""
        if self.events.privacy_unit.rows is None:
            if release.bounds is None:
                raise ValueError(f"{where}.bounds: is missing; add bounds: {{keys_per_unit: .., rows_per_key: ..}}")
            return
        rows = f"privacy_unit is {{rows: {self.events.privacy_unit.rows}}}"
        if release.bounds is not None:
            raise ValueError(f"{where}.bounds: is not needed where {rows}; remove it")
        if release.select is not None and "cap" in release.select.model_fields_set:
            raise ValueError(f"{where}.select.cap: is not needed where {rows}; remove it")
        for place, metric in enumerate(release.metrics):
            if getattr(metric, "count", None) == "units":
                raise ValueError(f"{where}.metrics[{place}].count: units are rows where {rows}; write count: events")
            if metric.limits_units:
                raise ValueError(
                    f"{where}.metrics[{place}]: norm, clip_total and vector_sum limit what one unit brings, but units are rows "
                    f"where {rows}; use a clip, or name a column as the unit"
                )

    def _check_delta(self, release: Release, where: str) -> None:
        """Only Laplace noise on public keys needs no delta."""
        if self.budget.delta:
            return
        cure = "write a delta well below 1 / number of units, such as 1.0e-6"
        if not release.keys.public:
            raise ValueError(f"budget.delta: is 0, but {where} has private keys, and to show them costs some of it; {cure}")
        if release.bounds is None or release.bounds.noise not in ("laplace", "auto"):
            raise ValueError(f"budget.delta: is 0, but the noise of {where} is Gaussian; {cure}, or bounds.noise: laplace there")
        given = next((metric.name for metric in release.metrics if metric.norm_is_given), None)
        if release.bounds.noise == "auto" and given:
            raise ValueError(
                f"budget.delta: is 0, but with noise: auto what has a norm that is given, as {given} in {where}, has Gaussian "
                f"noise; {cure}, or bounds.noise: laplace there"
            )

    @property
    def private_path(self) -> str:
        """The private folder."""
        return self.output.private or self.output.path.rstrip("/") + ".private"

    def resolved(self) -> dict[str, Any]:
        """The config with every default filled in, as JSON values. Without the ledger, which changes nothing in a release."""
        resolved = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"ledger"})
        resolved["output"]["private"] = self.private_path
        for release, described in zip(self.releases, resolved["releases"], strict=True):
            if release.selection is not None:
                rows = self.events.privacy_unit.rows is not None
                left_out = {"cap"} if rows else None
                described["select"] = release.selection.model_dump(mode="json", exclude=left_out, exclude_none=True)
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
    return parse_config(_read(path), variables, output, name=path)


def declared_ledger(path: str) -> str | None:
    """`ledger.url` of a config; the rest of it is not looked at."""
    ledger = _tree(_read(path), path).get("ledger")
    return str(ledger["url"]) if isinstance(ledger, dict) and ledger.get("url") else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); name a YAML file in UTF-8") from None


def parse_config(
    text: str, variables: Mapping[str, str] | None = None, output: str | None = None, name: str = "config"
) -> Config:
    """Like `load_config`, from the text of the file."""
    tree = _tree(text, name)
    fill_variables(tree, dict(variables or {}), name)
    if output is not None and isinstance(tree.get("output"), dict):
        tree["output"]["path"] = output
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(sentences(error, _schema()))) from None


def _tree(text: str, name: str) -> dict[str, Any]:
    # Every scalar stays the text that was written: NO, 007 and 1e-6 get their meaning from the field they are in.
    reader = YAML(typ="base", pure=True)
    try:
        tree = reader.load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = (error.problem or "it cannot be parsed").splitlines()[0]
        cure = next((cure for sign, cure in _YAML_CURES.items() if sign in problem), "correct it there")
        raise ConfigError(f"{name}{line}: this is no YAML 1.2: {problem}; {cure}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: this is no YAML 1.2 ({type(error).__name__}); correct it") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: holds no mapping; start with version: 1")
    return tree


_YAML_CURES = {
    "character '\\t'": "write spaces instead of tabs",
    "undefined alias": "put what begins with * in quotes",
    "character '%'": "put what begins with % in quotes",
    "expected ',' or": "close the bracket, or put what holds ${..}, a colon or a comma in quotes",
}
"""What mends what ruamel.yaml calls a problem."""


@functools.cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()
