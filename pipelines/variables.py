"""Variables: `${name}` in files, paths and values of conditions, and nowhere else."""

import re
from collections.abc import Mapping
from typing import Any

from transforms.errors import ConfigError

_MOST_PARTS = 100_000
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def fill_variables(tree: dict[str, Any], variables: Mapping[str, str], name: str) -> None:
    """Replaces `${name}` in place where it is allowed."""
    used: set[str] = set()

    left = _MOST_PARTS

    def fill(value: Any, where: str) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConfigError(f"{name}: holds more than {_MOST_PARTS} parts, aliases written out; shorten it")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str) or _VARIABLE.search(key):
                    raise ConfigError(f"{where or name}: {key!r} cannot be a key; keys are plain text without variables")
            return {key: fill(inner, f"{where}.{key}" if where else str(key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner, f"{where}[{number}]") for number, inner in enumerate(value)]
        if not isinstance(value, str):
            return value
        found = _VARIABLE.findall(value)
        if found and not _FILLED.fullmatch(where):
            raise ConfigError(
                f"{where}: {value!r} uses a variable; only files, paths, dates and values of where may, write it out"
            )
        for variable in found:
            if variable not in variables:
                raise ConfigError(f"{where}: ${{{variable}}} is not set; add --var {variable}=VALUE")
        used.update(found)
        return _VARIABLE.sub(lambda match: variables[match[1]], value)

    filled = fill(tree, "")
    tree.clear()
    tree.update(filled)
    for variable in variables:
        if variable not in used:
            raise ConfigError(f"--var {variable}: the config does not use ${{{variable}}}; remove the option or correct its name")


_FILLED = re.compile(
    r"events\.files(\[\d+\])?|events\.lookups\[\d+\]\.file|events\.where\[\d+\]\.value(\[\d+\])?"
    r"|events\.retain\.as_of|events\.window\.(from|to)|releases\[\d+\]\.keys\.from|output\.(path|private)|ledger\.url"
)
