"""The command line. It only wires: nothing that a worker unpickles lives here."""

import argparse
import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from pipelines.version import VERSION
from transforms.errors import ConfigError, InputError, Status

if TYPE_CHECKING:
    from pipelines.config import Config
    from privacy.plan import Plan


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


class _Ended(BaseException):
    """SIGINT or SIGTERM arrived."""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="discreet", description="Differentially private releases of event files.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"discreet {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    variables = _Parser(add_help=False, allow_abbrev=False)
    variables.add_argument(
        "--var", action="append", default=[], metavar="NAME=VALUE", help="what ${NAME} in the config stands for"
    )
    variables.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    plan = commands.add_parser(
        "plan",
        parents=[variables],
        allow_abbrev=False,
        help="show what a config would spend, and how far off numbers are",
    )
    plan.add_argument("configs", nargs="+", metavar="CONFIG", help="one config, or two to compare")
    run = commands.add_parser(
        "run",
        parents=[variables],
        allow_abbrev=False,
        help="publish the releases of a config",
        epilog="Further options go to Beam. The default is --runner=FnApiRunner with --direct_num_workers set to the cores.",
    )
    run.add_argument("config", metavar="CONFIG")
    run.add_argument("--run-id", metavar="ID", help="default: 12 digits of the config's digest")
    run.add_argument("--output", metavar="PATH", help="instead of output.path")
    init = commands.add_parser("init", allow_abbrev=False, help="write a first config for some files, with what is to be decided")
    init.add_argument("files", nargs="+", metavar="FILE", help="Parquet, CSV or JSON Lines")
    init.add_argument("--to", metavar="CONFIG", help="default: the first file's name with .yaml, in the working folder")
    check = commands.add_parser(
        "check",
        parents=[variables],
        allow_abbrev=False,
        help="see whether the files can be read as a config says; spends nothing",
    )
    check.add_argument("config", metavar="CONFIG")
    _add_ledger(commands)
    plan.add_argument("--runs", type=int, metavar="N", help="also say with which epsilon N runs fit into the ledger's limit")
    commands.add_parser("schema", allow_abbrev=False, help="print the config's JSON Schema, for editors")
    return parser


_LEDGER = {
    "init": "make an empty ledger",
    "show": "what each dataset has spent, and what is left",
    "runs": "every charge, in order",
    "verify": "walk the digests, and compare with the manifests that are found",
    "limit": "change what a dataset may spend, for a reason that is kept",
    "export": "write every charge to a Parquet file",
    "copy": "copy all entries into another ledger, which is made",
}


def _add_ledger(commands: Any) -> None:
    """Adds `ledger` and what can be done with it."""
    ledger = commands.add_parser("ledger", allow_abbrev=False, help="what was spent, and what is left")
    actions = ledger.add_subparsers(dest="action", required=True, parser_class=_Parser)
    for name, help_text in _LEDGER.items():
        action = actions.add_parser(name, allow_abbrev=False, help=help_text)
        action.add_argument("--config", metavar="CONFIG", help="the ledger that this config spends from")
        action.add_argument(
            "--ledger", metavar="URL", help="default: DISCREET_LEDGER, or the .discreet/ledger.db that is found here"
        )
        action.add_argument("--dataset", metavar="NAME", required=name == "limit", help="one dataset only")
        action.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        if name == "limit":
            action.add_argument("--epsilon", required=True, type=float)
            action.add_argument("--delta", required=True, type=float)
            action.add_argument("--reason", required=True)
        if name == "export":
            action.add_argument("file", metavar="FILE")
        if name == "copy":
            action.add_argument("to", metavar="URL", help="of the ledger that is made")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    ends, manifests = list[Status](), list[Path]()
    for number, status in ((signal.SIGINT, Status.INTERRUPTED), (signal.SIGTERM, Status.TERMINATED)):
        signal.signal(number, functools.partial(_end, ends, status))
    errors = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
    try:
        return _dispatch(arguments, errors, manifests)
    except (Exception, _Ended) as error:
        # Runners may wrap what a signal raised in an exception of their own.
        if ends:
            published = any(path.exists() for path in manifests)
            _leave(
                errors, ends[0], "the run is published" if published else "nothing was published, start the same command again"
            )
        from transforms.work_folder import without_data

        clean = without_data(error)
        for line in str(clean).splitlines():
            errors.print(f"discreet: {line}")
        return int(clean.status)


def command() -> NoReturn:
    """The command `discreet`. Ends without taking the interpreter down piece by piece, which takes longer than a small plan."""
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end(ends: list[Status], status: Status, number: int, frame: FrameType | None) -> None:
    ends.append(status)
    raise _Ended


def _leave(console: Console, status: Status, outcome: str) -> NoReturn:
    """Ends at once: Beam's worker threads would go on."""
    word = "interrupted" if status == Status.INTERRUPTED else "terminated"
    console.print(f"discreet: {word}; {outcome}")
    sys.stdout.flush()
    os._exit(int(status))


def _dispatch(arguments: Sequence[str] | None, errors: Console, manifests: list[Path]) -> int:
    known, rest = _parser().parse_known_args(arguments)
    if known.command == "run":
        return _run(known, rest, errors, manifests)
    if rest:
        raise ConfigError(f"{rest[0]}: discreet {known.command} does not know this option; see discreet {known.command} --help")
    return {"plan": _plan, "init": _init, "check": _check, "schema": _schema, "ledger": _ledger}[known.command](known)


def _say(text: str) -> None:
    """Writes the result to stdout. Nobody has to read it: a closed pipe changes nothing about what was done."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _drawn(show: Callable[[Console], None]) -> str:
    """What this prints on a console of stdout's width."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with console.capture() as text:
        show(console)
    return text.get()


def _variables(pairs: Sequence[str]) -> dict[str, str]:
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--var {pair}: has no =; write --var NAME=VALUE")
        if name in variables:
            raise ConfigError(f"--var {name}: is given twice; give it once")
        variables[name] = value
    return variables


def _planned(path: str, variables: dict[str, str], output: str | None = None) -> tuple["Config", "Plan"]:
    from pipelines.config import load_config
    from privacy.plan import PlanError, make_plan

    config = load_config(path, variables, output)
    try:
        return config, make_plan(config.budget, config.releases, config.events.privacy_unit.rows)
    except PlanError as error:
        raise ConfigError(str(error)) from None


def _plan(known: argparse.Namespace) -> int:
    from pipelines.report import print_comparison, print_plan, print_series
    from pipelines.statement import guarantee, pairs_json, plan_json, protected

    if len(known.configs) > 2:
        raise ConfigError(f"{known.configs[2]}: discreet plan takes one config or two; name fewer")
    planned = [(path, *_planned(path, _variables(known.var))) for path in known.configs]
    if known.runs is not None and (known.runs < 1 or len(planned) > 1):
        raise ConfigError(f"--runs {known.runs}: takes one config and a number from 1; correct it")
    series = None
    if known.runs is not None:
        from pipelines.spending import plan_series

        series = plan_series(planned[0][1], planned[0][2], planned[0][0], known.runs)
    if known.json:
        plans: list[dict[str, Any]] = [
            {"config": path, "guarantee": guarantee(config), "protected": protected(config), "plan": plan_json(plan)}
            | pairs_json(config)
            for path, config, plan in planned
        ]
        if series is not None:
            plans[0]["series"] = asdict(series)
        _say(json.dumps(plans[0] if len(plans) == 1 else {"plans": plans}, indent=2) + "\n")
        return int(Status.PUBLISHED)

    def show(console: Console) -> None:
        for path, config, plan in planned:
            print_plan(console, config, plan, path)
        if len(planned) == 2:
            print_comparison(console, [(path, plan) for path, _, plan in planned])
        if series is not None:
            print_series(console, series)

    _say(_drawn(show))
    return int(Status.PUBLISHED)


def _init(known: argparse.Namespace) -> int:
    from pipelines.first_config import config_path, first_config
    from transforms.work_folder import create_if_absent

    target = config_path(known.files) if known.to is None else Path(known.to)
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: is in no folder that is there; make the folder, or name another with --to")
    text = first_config(known.files, target)
    if not create_if_absent(target, text.encode()):
        raise ConfigError(f"{target}: is there already; remove it, or name another with --to")
    then = ", ".join(f"discreet {command} {target}" for command in ("check", "plan", "run"))
    _say(f"Wrote {target}. Answer the QUESTIONS in it, then: {then}\n")
    return int(Status.PUBLISHED)


def _check(known: argparse.Namespace) -> int:
    from pipelines.check import check_files

    config, plan = _planned(known.config, _variables(known.var))
    faults = list(check_files(config, plan))
    if known.json:
        _say(json.dumps({"config": known.config, "faults": faults}, indent=2) + "\n")
    if faults:
        raise InputError("\n".join(faults))
    if not known.json:
        _say(f"{known.config}: the files can be read as it says. Nothing was drawn or spent.\n")
    return int(Status.PUBLISHED)


def _ledger(known: argparse.Namespace) -> int:
    from pipelines.ledger_commands import run_ledger_command

    said = run_ledger_command(known)
    _say(json.dumps(said.values, indent=2) + "\n" if known.json else _drawn(said.show))
    return int(Status.PUBLISHED)


def _schema(known: argparse.Namespace) -> int:
    from pipelines.schema import config_schema

    _say(config_schema())
    return int(Status.PUBLISHED)


def _run(known: argparse.Namespace, rest: list[str], errors: Console, manifests: list[Path]) -> int:
    """Runs a config; `manifests` learns where the manifest will be."""
    from pipelines.config import RUN_ID
    from pipelines.manifests import manifest_path
    from pipelines.report import print_outcome, print_plan
    from pipelines.run import RunCall, start

    config, plan = _planned(known.config, _variables(known.var), known.output)
    run = config.digest()[:12] if known.run_id is None else known.run_id
    if not RUN_ID.fullmatch(run):
        raise ConfigError(f"--run-id {run!r}: must be 1 to 100 letters, digits, dots, _ or -, starting with one of the first two")
    manifests.append(manifest_path(Path(config.output.path), run))
    print_plan(errors, config, plan, known.config)
    outcome = start(RunCall(config=config, config_path=known.config, plan=plan, run=run, beam_arguments=rest), errors)
    if known.json:
        _say(json.dumps(outcome, indent=2) + "\n")
    else:
        _say(_drawn(lambda console: print_outcome(console, config, outcome)))
    return int(Status.PUBLISHED)


if __name__ == "__main__":
    command()
