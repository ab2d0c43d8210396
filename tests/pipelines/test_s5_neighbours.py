"""S5: 200 pairs of neighbouring inputs. Nothing but noisy values and selected keys differs in what is published."""

import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PAIRS, CHUNKS = 200, 8
UNITS = 12
SHOPS = ("ash", "birch", "cedar")


def base_rows() -> list[tuple[Any, ...]]:
    """A few units, so that one more matters."""
    return [(unit, SHOPS[unit % 3], float(unit % 10), unit % 5) for unit in range(UNITS) for _ in range(2)]


def unit_rows(number: int) -> list[tuple[Any, ...]]:
    """All events of one more unit: few, many, in shops of its own or of others, with odd values."""
    dice = random.Random(number)
    shops = [*SHOPS, "own", "", None, *(f"new-{shop}" for shop in range(dice.choice([1, 50])))]
    prices = [0.0, 5.0, 10.0, -1e308, 1e308, float("nan"), float("inf"), None]
    return [
        (999, dice.choice(shops), dice.choice(prices), dice.choice([0, 5, 2**31 - 1, None]))
        for _ in range(dice.choice([1, 2, 30, 3000]))
    ]


def write(project: Any, rows: list[tuple[Any, ...]]) -> None:
    """One file; the rows in an order that differs."""
    random.shuffle(rows)
    kinds = {"user": pa.int64(), "shop": pa.string(), "price": pa.float64(), "quantity": pa.int32()}
    columns = list(zip(*rows, strict=True))
    table = pa.table({name: pa.array(column, kind) for (name, kind), column in zip(kinds.items(), columns, strict=True)})
    project.write_events(table, row_group_size=random.choice([7, 1000]))


def seen(project: Any, run_id: str) -> dict[str, Any]:
    """Everything published, but for noisy values and the number of selected keys."""
    ended = project.run(run_id=run_id)
    assert ended.status == 0, ended.complaint
    outcome, manifest = ended.json, project.manifest(run_id)
    assert len(manifest.pop("charge")) == 64
    assert outcome.pop("ledger")["runs_left"] > 0  # one fewer after each run
    for release in outcome["releases"].values():
        del release["keys"]
    for file in manifest["files"]:
        assert len(file.pop("sha256")) == 64
    files: dict[str, Any] = {}
    for name in ("private", "public"):
        last = None
        for path in project.parts(name, run_id):
            file = pq.ParquetFile(path)
            table, metadata = file.read(), file.metadata
            keys = table["shop"].to_pylist()
            assert keys == sorted(keys)
            assert last is None or not keys or last < keys[0]
            last = keys[-1] if keys else last
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            assert [group.num_rows for group in groups if group.num_rows] == [table.num_rows][: table.num_rows]
            files[f"{name}/{path.name}"] = {
                "schema": file.schema_arrow,
                "metadata": metadata.metadata,
                "format": (metadata.format_version, metadata.created_by),
                "compression": {group.column(number).compression for group in groups for number in range(metadata.num_columns)},
                "rows": table.num_rows if name == "public" else None,
                "keys": keys if name == "public" else None,
                "groups": len(groups) if name == "public" else None,
            }
    text = {"err": ended.err.replace(run_id, "RUN"), "out": repr(outcome).replace(run_id, "RUN")}
    names = [name.replace(run_id, "RUN") for name in project.names() if run_id in name]
    return files | text | {"names": names, "manifest": repr(manifest).replace(run_id, "RUN"), "leftovers": project.leftovers()}


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_s5_neighbours(project, chunk):
    """With and without all events of one unit, in another order and other row groups."""
    metrics = project.release["metrics"][:3]
    bounds = {"keys_per_unit": 2, "rows_per_key": 2}
    project.config["budget"] = {"epsilon": 8, "delta": 1e-2}
    project.config["releases"] = [
        {"name": "private", "keys": {"columns": ["shop"]}, "bounds": bounds, "metrics": metrics},
        {
            "name": "public",
            "keys": {"columns": ["shop"], "values": {"shop": ["birch", "absent", "own"]}},
            "bounds": bounds,
            "metrics": [*metrics, {"name": "average", "mean": "price", "clip": [0, 10]}],
        },
    ]
    selected = set()
    for number in range(chunk, PAIRS, CHUNKS):
        write(project, base_rows())
        without = seen(project, f"w{number:03d}")
        write(project, [*base_rows(), *unit_rows(number)])
        with_unit = seen(project, f"u{number:03d}")
        for name, value in without.items():
            assert with_unit[name] == value, name
        selected |= {tuple(project.table("private", f"{kind}{number:03d}")["shop"].to_pylist()) for kind in "uw"}
    assert len(selected) > 1, "the selection never varied: the fixture shows nothing"
