"""The Beam graph of a run: one line from the files to the private folder."""

import os
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from pipelines.inputs import Inputs
from transforms.bounded_sums import BoundedSums
from transforms.errors import ConfigError
from transforms.exchange import Exchange
from transforms.release_keys import ReleaseKeys
from transforms.work_folder import WorkFolder

LOCAL_RUNNER = "FnApiRunner"
_SHARD_ROWS = 1_250_000
_MOST_SHARDS = 1024
_ROWS_PER_KEY_SHARD = 8_000_000
_MOST_KEY_SHARDS = 64


@dataclass(frozen=True)
class Sharding:
    """In how many parts the shuffles are cut. Changes speed and memory, never a sum.

    Attributes:
        unit_shards: memory of a worker is about that of 1.25M sums per unit and key.
        by_reference: workers share the disk of the private folder.
    """

    unit_shards: int
    key_shards: int
    by_reference: bool


def runner_options(arguments: list[str]) -> PipelineOptions:
    """Beam's options, with the local runner on all cores as the default.

    Raises:
        ConfigError: an option that Beam does not know either.
    """
    options = PipelineOptions(arguments)
    unknown = _unknown(arguments)
    if unknown:
        raise ConfigError(f"{unknown[0]}: neither discreet nor Beam knows this option; see discreet run --help")
    if options.view_as(StandardOptions).runner is None:
        options.view_as(StandardOptions).runner = LOCAL_RUNNER
    _check_runner(str(options.view_as(StandardOptions).runner))
    direct = options.view_as(DirectOptions)
    if is_local(options):
        given = any(item.startswith("--direct_num_workers") for item in arguments)
        if given and direct.direct_num_workers < 0:
            raise ConfigError(
                f"--direct_num_workers={direct.direct_num_workers}: is below 0; write 1 or more, or 0 for all cores"
            )
        if not given or direct.direct_num_workers == 0:
            direct.direct_num_workers = len(os.sched_getaffinity(0))
        if not any(item.startswith("--direct_running_mode") for item in arguments):
            direct.direct_running_mode = "multi_threading" if direct.direct_num_workers > 1 else "in_memory"
    return options


def _unknown(arguments: list[str]) -> list[str]:
    # Beam drops what it does not know with a warning; its own parser tells what that is.
    from apache_beam.options.pipeline_options import _BeamArgumentParser

    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    try:
        return list(parser.parse_known_args(arguments)[1])
    except SystemExit:
        raise ConfigError("a Beam option has a wrong value; see the line above") from None


def _check_runner(name: str) -> None:
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError):
        raise ConfigError(f"--runner={name}: Beam has no such runner here; correct the name, or install what it needs") from None


def is_local(options: PipelineOptions) -> bool:
    """Whether the workers are this process."""
    return bool(options.view_as(StandardOptions).runner == LOCAL_RUNNER)


def workers_of(options: PipelineOptions) -> int:
    """How many workers a local run has; a guess for the others."""
    return int(options.view_as(DirectOptions).direct_num_workers) if is_local(options) else 16


def choose_sharding(rows: int, releases: int, options: PipelineOptions) -> Sharding:
    """From the files' metadata alone."""
    workers = workers_of(options)
    least = 2 * workers
    return Sharding(
        unit_shards=max(least, min(_MOST_SHARDS, rows * releases // _SHARD_ROWS)),
        key_shards=max(least, min(_MOST_KEY_SHARDS, rows * releases // _ROWS_PER_KEY_SHARD)),
        by_reference=is_local(options),
    )


def bounded_sums(inputs: Inputs, sharding: Sharding, secret: bytes, folder: WorkFolder) -> BoundedSums:
    """Everything below the noise."""
    return BoundedSums(
        parts=inputs.parts,
        events=inputs.events,
        unit=inputs.unit,
        releases=inputs.releases,
        secret=secret,
        unit_shards=sharding.unit_shards,
        key_shards=sharding.key_shards,
        exchange=Exchange(folder.batches if sharding.by_reference else None),
        folder=folder,
    )


def build_graph(pipeline: beam.Pipeline, inputs: Inputs, sharding: Sharding, secret: bytes, folder: WorkFolder) -> None:
    """Adds the run to a pipeline: the bounded sums, then the step that draws the noise and stages the releases."""
    (
        pipeline
        | "BoundedSums" >> bounded_sums(inputs, sharding, secret, folder)
        | "ReleaseKeys" >> ReleaseKeys(releases=inputs.releases, value_types=inputs.value_types, folder=folder)
    )
