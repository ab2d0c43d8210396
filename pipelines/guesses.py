"""What the columns of files seem to be, from names and types alone: who is told apart, what is a key, what is an amount."""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.columns import is_number, key_type
from transforms.errors import InputError
from transforms.read_events import plain_type
from transforms.text_events import TextFormat, is_csv, is_text
from transforms.text_types import find_text

_PEOPLE = frozenset(
    "customer client user member patient household account person employee student pupil subscriber visitor guest donor "
    "respondent participant driver rider tenant citizen contact card email mail phone kunde kundin nutzer mitglied cliente "
    "usuario".split()
)
_IDS = frozenset("id no nr num number nummer key code uuid guid hash zip plz postcode phone ean sku iban".split())
_COMPOUNDS = re.compile(r"(kunden|mitglieds|benutzer|patienten|nutzer)[ _-]?(nr|nummer|id)", re.IGNORECASE)
_WORDS_OF_PEOPLE = frozenset("name addres".split())  # without a plural's s, as all words
_NOT_PEOPLE = frozenset(
    "n per of is has new old first last repeat days since age price total avg mean count type status group segment tier".split()
)
_KEYS = frozenset(
    "category department product store shop branch country region city state channel plan tier type status segment group source "
    "campaign feature brand age income gender answer filiale kategorie land stadt tienda categoria".split()
)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the columns of a file seem to be.

    Attributes:
        text: how a text file is written; None for Parquet.
        ambiguous: whether days and months could be meant the other way round.
        notes: what is to be said of the types of single columns.
        nested: columns of objects or lists.
    """

    types: dict[str, pa.DataType]
    text: TextFormat | None = None
    csv: bool = False
    ambiguous: bool = False
    notes: dict[str, str] = field(default_factory=dict)
    nested: frozenset[str] = frozenset()

    @cached_property
    def units(self) -> list[str]:
        """Columns that may tell persons apart, the likeliest first."""
        ranks = {column: _unit_rank(column) for column in self.types if self._groups(column)}
        return sorted((column for column, rank in ranks.items() if rank is not None), key=lambda column: ranks[column] or 0)

    @cached_property
    def times(self) -> list[str]:
        """Columns of dates or timestamps."""
        return [name for name, kind in self.types.items() if pa.types.is_timestamp(kind) or pa.types.is_date(kind)]

    @cached_property
    def keys(self) -> list[str]:
        """Columns that may be keys, those with a telling name first, then texts."""
        usable = [column for column in self.types if self._groups(column) and column not in (*self.units, *self.times)]
        return sorted(usable, key=lambda column: (not _is_key(column), not pa.types.is_string(self.types[column])))

    @property
    def key(self) -> str | None:
        """The column that is most likely a key; None where no name tells."""
        return self.keys[0] if self.keys and _is_key(self.keys[0]) else None

    @cached_property
    def amounts(self) -> list[str]:
        """Columns that may be added up."""
        others = (*self.units, *self.nested)
        return [
            name
            for name, kind in self.types.items()
            if is_number(kind) and not pa.types.is_boolean(kind) and name not in others and not _is_id(name)
        ]

    def _groups(self, column: str) -> bool:
        kind = self.types[column]
        return key_type(kind) is not None and not pa.types.is_boolean(kind) and column not in self.nested


def guess(path: str) -> Guess:
    """Looks at a file's footer, or at the first mebibyte of a text file.

    Raises:
        InputError: it cannot be read, holds nothing, or does not name its columns.
    """
    if not os.path.isfile(path):
        cure = "is a folder; write folder/*.csv" if os.path.isdir(path) else "names no file; correct the path"
        raise InputError(f"{path}: {cure}")
    try:
        if not is_text(path):
            return Guess(types={field.name: plain_type(field.type) for field in pq.read_schema(path)})
        found = find_text(path)
    except PermissionError:
        raise InputError(f"{path}: may not be read; change its permissions") from None
    except (pa.ArrowException, OSError):
        raise InputError(f"{path}: cannot be read; name Parquet, or text that ends in .csv or .jsonl") from None
    notes = {column.name: "dates in another form than the others stay text" for column in found.columns if column.other_dates}
    notes |= {
        column.name: "is 1,234 about one, or a thousand? text until you say" for column in found.columns if column.thousands
    }
    return Guess(
        types={column.name: column.type for column in found.columns},
        text=found.format,
        csv=is_csv(path),
        ambiguous=found.ambiguous,
        notes=notes,
        nested=frozenset(column.name for column in found.columns if column.nested),
    )


def _words(name: str) -> list[str]:
    """The words of a name, in lower case: of customer_ids and CustomerID both customer and id."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name)
    return [word.lower().removesuffix("s") if len(word) > 3 else word.lower() for word in found]


def _is_id(name: str) -> bool:
    words = _words(name)
    return bool(_COMPOUNDS.search(name)) or (bool(words) and words[-1] in _IDS)


def _unit_rank(name: str) -> int | None:
    """How likely a name is one of persons: 0 the likeliest, None not at all."""
    words = _words(name)
    if _COMPOUNDS.fullmatch(name):
        return 0
    if not words or set(words) & _NOT_PEOPLE:
        return None
    if words[-1] in _PEOPLE:
        return 1
    if len(words) > 1 and words[-2] in _PEOPLE:
        return 0 if words[-1] in _IDS else 2 if words[-1] in _WORDS_OF_PEOPLE else None
    return None


def _is_key(name: str) -> bool:
    return bool(set(_words(name)) & _KEYS)
