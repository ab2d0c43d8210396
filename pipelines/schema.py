"""The config's JSON Schema, by which editors complete and check."""

import json
from typing import Any

from pipelines.config import Config

_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""What pydantic calls limits behind a validator, and what JSON Schema calls them."""


def config_schema() -> str:
    """The schema as the text of a file. It knows each key and its type; the rules that join several keys only a run checks."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Discreet config"}
    return json.dumps(about | _plain(Config.model_json_schema()), indent=2) + "\n"


def _plain(schema: Any) -> Any:
    """In JSON Schema's own words, and without the titles that only repeat the keys."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {_LIMITS.get(key, key): _plain(part) for key, part in schema.items() if key != "title" or not isinstance(part, str)}
