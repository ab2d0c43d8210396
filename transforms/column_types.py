"""The types that columns of text files are declared with."""

import re

import pyarrow as pa

TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date32": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp(UTC)": pa.timestamp("us", "UTC"),
}


def column_type(name: str) -> pa.DataType:
    """The Arrow type that a config names.

    Raises:
        ValueError: there is none.

    >>> column_type("decimal(10,2)")
    Decimal128Type(decimal128(10, 2))
    """
    decimal = re.fullmatch(r"decimal\(([0-9]{1,2}), *([0-9]{1,2})\)", name)
    if decimal and 1 <= int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1]):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if name not in TYPES:
        raise ValueError(f"{name!r} is no type; write one of {', '.join(TYPES)}, decimal(10,2)")
    return TYPES[name]


def type_name(kind: pa.DataType) -> str:
    """What a config calls a type.

    >>> type_name(pa.float64())
    'float64'
    """
    known = next((name for name, other in TYPES.items() if other == kind), None)
    return known or f"decimal({kind.precision},{kind.scale})"
