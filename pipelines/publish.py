"""Publishing: exactly what a record names, sorted by key, in a fixed number of files, and last the manifest."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.config import Config
from pipelines.manifests import manifest_path
from privacy.release import Release
from transforms.exchange import decode
from transforms.work_folder import create_if_absent


def release_path(output: Path, release: str, run: str) -> Path:
    """The folder of a release's files."""
    return output / release / f"run={run}"


def part_path(output: Path, run: str) -> Path:
    """Where the files of a run are written before they get their place."""
    return output / "_runs" / f".{run}.part"


def publish(config: Config, run: str, staged: Iterable[bytes], statement: dict[str, Any]) -> None:
    """Writes the releases and then the manifest. Called again after a crash, it writes the same bytes.

    Args:
        staged: the files of the recorded draw, which hold at least one batch of each release.
        statement: the manifest's fields but `files`, which also go into each file's metadata.
    """
    output = Path(config.output.path)
    tables: dict[str, list[pa.RecordBatch]] = {}
    for data in staged:
        for name, batches in decode(data).items():
            tables.setdefault(name, []).extend(batches)
    part = part_path(output, run)
    shutil.rmtree(part, ignore_errors=True)
    files: list[dict[str, str]] = []
    about = json.dumps({key: statement[key] for key in ("guarantee", "protected", "plan")}, sort_keys=True)
    for release in config.releases:
        table = shown(pa.Table.from_batches(tables[release.name]), release).replace_schema_metadata({"discreet": about})
        target = release_path(output, release.name, run)
        written = write_release(table, release.keys.columns, config.output.files, part / release.name)
        files += [{"path": str(target.relative_to(output) / name), "sha256": digest} for name, digest in written.items()]
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target)  # left by a crash of this very run, from the same draw
        (part / release.name).rename(target)
    manifest = statement | {"files": files}
    create_if_absent(manifest_path(output, run), (json.dumps(manifest, indent=2) + "\n").encode(), part)


def shown(table: pa.Table, release: Release) -> pa.Table:
    """The rows that a release's `top` leaves, without the intervals that are untrue since their own noise decided.

    Guarantee: post-processing of noisy values; equal ones are ordered by key.
    """
    if release.top is not None:
        by = [(release.top.by, "descending"), *((key, "ascending") for key in release.keys.columns)]
        table = table.take(pc.sort_indices(table, by)[: release.top.n])
    return table.drop_columns([f"{name}{end}" for name in release.without_interval for end in ("_low", "_high")])


def write_release(table: pa.Table, keys: Iterable[str], files: int, folder: Path) -> dict[str, str]:
    """Writes a table in `files` files, ascending by key over all of them, nulls last.

    Returns:
        Each file's name and SHA-256.
    """
    table = table.sort_by([(key, "ascending") for key in keys])
    folder.mkdir(parents=True)
    edges = [table.num_rows * number // files for number in range(files + 1)]
    digests = {}
    for number in range(files):
        path = folder / f"part-{number:05d}.parquet"
        rows = table.slice(edges[number], edges[number + 1] - edges[number])
        pq.write_table(rows, path, compression="zstd", row_group_size=1 << 20)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests
