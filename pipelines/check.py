"""`discreet check`: whether the files can be read as a config says. Looks at footers and at the beginning of text files."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Config
from pipelines.inputs import resolve_inputs
from privacy.plan import Plan
from transforms.errors import InputError
from transforms.text_events import is_text
from transforms.text_types import FITS, sample

_REASONS = 5
"""So many are told of each file."""


def check_files(config: Config, plan: Plan) -> Iterator[str]:
    """What is wrong with how text files are declared, a sentence each; names columns and rules, never values.

    Raises:
        InputError: a file is missing or cannot be read at all, or a column cannot be used.
        ConfigError: a value of the config does not fit its column.
    """
    inputs = resolve_inputs(config, plan)
    for path in dict.fromkeys(part.path for part in inputs.parts):
        if not is_text(path):
            continue
        try:
            found = sample(path, inputs.events.schema.names, inputs.events.text)
        except (pa.ArrowException, OSError):
            raise InputError(f"{path}: cannot be read or decompressed; replace the file") from None
        lines = found.events.num_rows + found.bad.num_rows
        if found.bad.num_rows > lines * (1 - FITS):
            reasons = sorted(pc.value_counts(found.bad["reason"]).to_pylist(), key=lambda reason: -reason["counts"])
            for reason in reasons[:_REASONS]:
                yield (
                    f"{path}: more than {1 - FITS:.0%} of the first lines would be set aside, some because {reason['values']}; "
                    f"correct events.types, events.csv or the file"
                )
        for name, column in zip(found.events.schema.names, found.events.columns, strict=True):
            if found.events.num_rows and column.null_count == found.events.num_rows:
                yield f"{path}: column {name} is empty in all of the first lines; correct its name or the file"
