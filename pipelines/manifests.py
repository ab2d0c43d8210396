"""The manifests in an output folder: a run is published when its own is there."""

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from transforms.errors import RunnerError


def manifest_path(output: Path, run: str) -> Path:
    """Where the manifest of a run is. The run exists when it does."""
    return output / "_runs" / f"{run}.json"


def read_manifest(output: Path, run: str) -> dict[str, Any] | None:
    """The manifest of a published run, None where it is not published.

    Raises:
        RunnerError: it is damaged.
    """
    path = manifest_path(output, run)
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        complete = {"config", "config_digest", "files"} <= manifest.keys()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, AttributeError):
        complete = False
    if not complete:
        raise RunnerError(f"{path}: is damaged; restore it, or choose another --run-id")
    return manifest


def charged_manifests(output: Path, datasets: Container[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The manifests of some datasets in an output folder that name a charge, the newest first."""
    for path in sorted((output / "_runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            manifest = json.loads(path.read_bytes())
            if manifest["dataset"] in datasets and isinstance(manifest["charge"], str) and isinstance(manifest["run"], str):
                yield path, manifest
        except (OSError, ValueError, TypeError, KeyError):
            continue  # of a version without a ledger, or damaged, which is told where it is needed
