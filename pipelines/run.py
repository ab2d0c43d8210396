"""One run: plan, read, aggregate, draw, record, publish. `python -m pipelines.run` is `discreet run`."""

import contextlib
import io
import platform
import shutil
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ledger.entries import changed
from pipelines.config import Config
from pipelines.private_folder import Commit, PrivateFolder
from pipelines.statement import statement
from pipelines.version import VERSION
from privacy.ids import new_secret
from privacy.plan import Plan
from transforms.errors import ConfigError, RunnerError

if TYPE_CHECKING:
    from ledger.book import Book
    from ledger.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class RunCall:
    """What `discreet run` was asked for."""

    config: Config
    config_path: str
    plan: Plan
    run: str
    beam_arguments: list[str]


def start(call: RunCall, console: Console) -> dict[str, Any]:
    """Publishes a run, or finds it published.

    Returns:
        run, output, manifest, drawn (False where it was published before), releases (keys and path), spent, ledger (what is
        left; where this call has drawn), and quarantine where text files are read.

    Raises:
        DiscreetError: with the exit status and one sentence for the user.
    """
    from pipelines.graph import runner_options
    from pipelines.manifests import manifest_path
    from pipelines.publish import publish
    from pipelines.spending import check_published, left, open_ledger
    from privacy.pots import cost

    output = Path(call.config.output.path)
    options = runner_options(call.beam_arguments)
    private = PrivateFolder(Path(call.config.private_path), call.run)
    published = _published(call)
    if published is not None and not _left(output, private):
        return published
    _check_apart(output, private.root)
    with private.locked():
        published = _published(call)
        ledger = open_ledger(call.config, call.config_path, console)
        if published is not None:
            ledger.settle(call.config.dataset, call.run)
            _tidy(output, private)
            return published
        private.sweep()
        commit = private.commit()
        if commit is None:
            _check_nothing_visible(call, output)
            book = ledger.book(call.config.dataset)
            check_published(ledger, book, output, call.config.dataset)
            manifest_path(output, call.run).parent.mkdir(parents=True, exist_ok=True)  # fails here if it must fail
            commit = _draw(call, ledger, book, private, options, console)
        elif commit.config != call.config.digest():
            raise ConfigError(f"run {call.run}: was drawn with another config; choose another --run-id")
        charge = ledger.draw(call.config.dataset, call.run, commit.digest, cost(call.plan))
        about = statement(call.config, call.run, call.plan, _versions()) | {"charge": charge.digest}
        publish(call.config, call.run, private.staged(commit), about)
        ledger.settle(call.config.dataset, call.run)
        _tidy(output, private)
    outcome = _published(call)
    assert outcome is not None
    return outcome | {"drawn": True, "ledger": left(call.config, call.plan, ledger)}


def _left(output: Path, private: PrivateFolder) -> bool:
    """Whether a run that died after its manifest left something to remove."""
    from pipelines.publish import part_path

    return private.exists() or part_path(output, private.run).exists()


def _tidy(output: Path, private: PrivateFolder) -> None:
    from pipelines.publish import part_path

    shutil.rmtree(part_path(output, private.run), ignore_errors=True)
    private.remove()


def _published(call: RunCall) -> dict[str, Any] | None:
    """The outcome of a run that is published.

    Raises:
        ConfigError: it was published with another config.
    """
    from pipelines.manifests import manifest_path, read_manifest
    from pipelines.publish import release_path

    output = Path(call.config.output.path)
    manifest = read_manifest(output, call.run)
    if manifest is None:
        return None
    if manifest["config_digest"] != call.config.digest():
        differences = ", ".join(changed(manifest["config"], call.config.resolved()))
        raise ConfigError(f"run {call.run}: is published with another config ({differences}); choose another --run-id")
    return {
        "run": call.run,
        "output": str(output),
        "manifest": str(manifest_path(output, call.run)),
        "drawn": False,
        "releases": {
            release.name: {
                "keys": _rows(output, manifest, release.name),
                "path": str(release_path(output, release.name, call.run)),
            }
            for release in call.config.releases
        },
        "spent": {"epsilon": call.plan.epsilon, "delta": call.plan.delta},
    } | _quarantine(call)


def _quarantine(call: RunCall) -> dict[str, str]:
    """Where to look for lines that could not be read, if the config names text files."""
    from transforms.text_events import is_text

    if not any(is_text(path) for path in call.config.events.files):
        return {}
    return {"quarantine": str(PrivateFolder(Path(call.config.private_path), call.run).quarantine)}


def _rows(output: Path, manifest: dict[str, Any], release: str) -> int:
    import pyarrow.parquet as pq

    paths = [output / file["path"] for file in manifest["files"] if file["path"].startswith(f"{release}/")]
    try:
        return sum(pq.read_metadata(path).num_rows for path in paths)
    except FileNotFoundError:
        raise RunnerError(f"{output / release}: files of the run are gone; restore them, they are never drawn again") from None


def _check_apart(output: Path, private: Path) -> None:
    inner, outer = private.resolve(), output.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ConfigError(
            f"output.private: {private} and {output}, which is published, lie in one another; write a folder elsewhere"
        )


def _check_nothing_visible(call: RunCall, output: Path) -> None:
    """Refuses to draw where files of another draw of this run id can already be read."""
    from pipelines.publish import part_path, release_path

    for path in [part_path(output, call.run), *(release_path(output, item.name, call.run) for item in call.config.releases)]:
        if path.exists():
            raise ConfigError(f"{path}: is there, but not the private record of its draw; choose another --run-id")


def _draw(call: RunCall, ledger: "Ledger", book: "Book | None", private: PrivateFolder, options: Any, console: Console) -> Commit:
    """Charges the run, runs the pipeline, and records what it staged. The book is the ledger's before."""
    import apache_beam as beam

    from pipelines.files import find_files
    from pipelines.graph import build_graph, choose_sharding, is_local
    from pipelines.inputs import resolve_inputs
    from pipelines.progress import shown
    from pipelines.spending import request, unit_types
    from transforms.read_events import BATCH_ROWS
    from transforms.release_keys import stage_schemas

    asked = request(call.config, call.plan, call.run, find_files(call.config.events.files))
    ledger.check(asked, book)  # before any data file is opened
    inputs = resolve_inputs(call.config, call.plan)
    sharding = choose_sharding(inputs.rows, len(inputs.releases), options)
    folder = private.new_attempt()
    steps = sum(1 + part.rows // BATCH_ROWS for part in inputs.parts) + sharding.unit_shards + sharding.key_shards
    pipeline = beam.Pipeline(options=options)
    try:
        build_graph(pipeline, inputs, sharding, new_secret(), folder)
        ledger.reserve(replace(asked, unit_types=unit_types(inputs.unit)))
    except BaseException:
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
        raise
    try:
        if is_local(options):
            # Beam prints tracebacks of workers to stderr, beside raising them.
            with shown(console, folder, steps), contextlib.redirect_stderr(io.StringIO()):
                pipeline.run().wait_until_finish()
        else:
            pipeline.run().wait_until_finish()
    except BaseException as error:  # runners raise whatever they like; the worker's own report says what it was
        if sharding.by_reference and not folder.was_read:
            ledger.void(asked.dataset, asked.run, "ended before any data was read")
        if not isinstance(error, Exception):
            raise
        raise folder.reported() or RunnerError(
            f"the runner failed ({type(error).__name__}); its own log says more, start again with the same run id"
        ) from None
    finally:
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
    reported = folder.reported()
    if reported is not None:
        raise reported
    stage_schemas(inputs.releases, inputs.value_types, folder)
    return private.record(folder, call.config.digest())


def _versions() -> dict[str, str]:
    packages = ("apache-beam", "numpy", "opendp", "pyarrow")
    return {"discreet": VERSION, "python": platform.python_version()} | {name: version(name) for name in packages}


if __name__ == "__main__":
    from pipelines.cli import command

    sys.argv.insert(1, "run")
    command()
