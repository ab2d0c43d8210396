"""Publishing: exactly what a record names, sorted by key, in a fixed number of files, and last the manifest."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import Config
from pipelines.inputs import Inputs
from transforms.exchange import decode
from transforms.release_keys import published_schema
from transforms.work_folder import create_if_absent


def manifest_path(output: Path, run: str) -> Path:
    """Where the manifest of a run is. The run exists when it does."""
    return output / "_runs" / f"{run}.json"


def release_path(output: Path, release: str, run: str) -> Path:
    """The folder of a release's files."""
    return output / release / f"run={run}"


def read_manifest(output: Path, run: str) -> dict[str, Any] | None:
    """The manifest of a published run."""
    try:
        manifest: dict[str, Any] = json.loads(manifest_path(output, run).read_bytes())
    except FileNotFoundError:
        return None
    return manifest


def publish(config: Config, run: str, inputs: Inputs, staged: Iterable[bytes], statement: dict[str, Any]) -> None:
    """Writes the releases and then the manifest. Called again after a crash, it writes the same bytes.

    Args:
        staged: the files of the recorded draw.
        statement: the manifest's fields but `files`, which also go into each file's metadata.
    """
    output = Path(config.output.path)
    tables: dict[str, list[pa.RecordBatch]] = {}
    for data in staged:
        for name, batches in decode(data).items():
            tables.setdefault(name, []).extend(batches)
    part = output / "_runs" / f".{run}.part"
    shutil.rmtree(part, ignore_errors=True)
    files: list[dict[str, str]] = []
    for release in inputs.releases:
        schema = published_schema(release, inputs.value_types).with_metadata(
            {"discreet": json.dumps({key: statement[key] for key in ("guarantee", "protected", "plan")}, sort_keys=True)}
        )
        table = pa.Table.from_batches(
            [batch.replace_schema_metadata(schema.metadata).cast(schema) for batch in tables.get(release.plan.name, [])],
            schema,
        )
        target = release_path(output, release.plan.name, run)
        written = write_release(table, release.key_columns, config.output.files, part / release.plan.name)
        files += [{"path": str(target.relative_to(output) / name), "sha256": digest} for name, digest in written.items()]
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target)  # left by a crash of this very run, from the same draw
        (part / release.plan.name).rename(target)
    manifest = statement | {"files": files}
    create_if_absent(manifest_path(output, run), (json.dumps(manifest, indent=2) + "\n").encode())
    shutil.rmtree(part, ignore_errors=True)


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
