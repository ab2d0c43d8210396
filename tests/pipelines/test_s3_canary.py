"""S3: a canary id, key and value on every path through bad input, and through a normal run with Beam's logging on."""

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import run as run_module
from transforms import exchange, release_keys, sum_by_key, sum_by_unit

ID, KEY, VALUE = "CANARY-ID-8421", "CANARY-KEY-8421", 8421.8421
TRACES = ("CANARY", "8421.8421", "8421_8421")


def canary_events(table: pa.Table) -> pa.Table:
    """The base events with ids as text, and 20 rows of one unit that alone has one key."""
    table = table.set_column(0, "user", pa.array([f"u{unit}" for unit in table["user"].to_pylist()]))
    rows = {
        "user": pa.array([ID] * 20),
        "shop": pa.array([KEY] * 20),
        "price": pa.array([VALUE] * 20),
        "quantity": pa.array([84218421] * 20, pa.int32()),
        "at": pa.array([84218421] * 20, pa.timestamp("s")),
    }
    return pa.concat_tables([table, pa.table(rows)]).sort_by("price")


def loud() -> None:
    """Every logger of Beam at its finest, below the one that `main` silences."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("apache_beam."):
            logging.getLogger(name).setLevel(logging.DEBUG)


@pytest.fixture
def canary(project, caplog, monkeypatch) -> Any:
    """A project whose events hold the canaries; afterwards they must be nowhere."""
    project.write_events(canary_events(project.base))
    import apache_beam  # noqa: F401
    from apache_beam.runners.portability.fn_api_runner import fn_runner  # noqa: F401

    raised: list[str] = []
    start = run_module.start

    def watched(*arguments: Any) -> Any:
        try:
            return start(*arguments)
        except BaseException as error:
            raised.append("".join(traceback.format_exception(error)))
            raise

    monkeypatch.setattr(run_module, "start", watched)
    caplog.set_level(logging.DEBUG)
    loud()
    project.raised, project.log = raised, caplog
    return project


def assert_nowhere(project: Any, ended: Any) -> None:
    """Not in what was printed, raised, logged, published, or in the name of any file."""
    texts = {"stdout": ended.out, "stderr": ended.err, "exceptions": "".join(project.raised), "log": project.log.text}
    for path in sorted(project.root.rglob("*")):
        texts[f"name of {path}"] = str(path.relative_to(project.root))
        if "out" in path.relative_to(project.root).parts and path.is_file():
            texts[f"content of {path}"] = path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                file = pq.ParquetFile(path)
                texts[f"rows of {path}"] = f"{file.read().to_pylist()} {file.metadata} {file.schema_arrow.metadata}"
        if path.name in ("error.json", "commit.json"):
            texts[f"content of {path}"] = path.read_text()
    for place, text in texts.items():
        for trace in TRACES:
            assert trace not in text, f"{trace} in {place}"


def test_s3_a_normal_run(canary):
    """The canary key has one unit and is not selected; the log is not empty."""
    ended = canary.run()
    assert ended.status == 0
    assert canary.log.records
    assert canary.table()["shop"].to_pylist() == ["ash", "birch", "cedar"]
    assert_nowhere(canary, ended)


def test_s3_names_of_private_files(canary, monkeypatch):
    """While the run is at work: neither ids nor keys name its files."""
    seen: list[str] = []
    stage = release_keys.release_keys

    def looking(*arguments: Any) -> Any:
        seen.extend(str(path) for path in Path("out.private").rglob("*"))
        return stage(*arguments)

    monkeypatch.setattr(release_keys, "release_keys", looking)
    assert canary.run().status == 0
    assert any("batches/" in path for path in seen)
    assert not [path for path in seen for trace in TRACES if trace in path]


def _damaged(project: Any) -> None:
    path = project.root / "events/a.parquet"
    column = pq.read_metadata(path).row_group(0).column(2)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 30] = b"\xff" * 30
    path.write_bytes(data)


def _truncated(project: Any) -> None:
    path = project.root / "events/a.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def _sum_of_text(project: Any) -> None:
    project.release["metrics"][2]["sum"] = "shop"


def _float_key(project: Any) -> None:
    project.release["keys"]["columns"] = ["price"]


def _period_of_text(project: Any) -> None:
    project.config["events"]["derive"] = {"day": {"truncate": "shop", "to": "day", "timezone": "UTC"}}


def _missing_column(project: Any) -> None:
    project.config["events"]["privacy_unit"] = "absent"


def _other_types(project: Any) -> None:
    table = canary_events(project.base)
    project.write_events(table.set_column(2, "price", table["price"].cast(pa.string())), "events/b.parquet")


def _lookup_twice(project: Any) -> None:
    pq.write_table(pa.table({"shop": [KEY, KEY], "area": [KEY, KEY]}), project.root / "towns.parquet")
    project.config["events"]["lookups"] = [{"file": "towns.parquet", "by": "shop", "columns": ["area"]}]


def _lookup_of_other_type(project: Any) -> None:
    pq.write_table(pa.table({"quantity": [KEY], "area": [KEY]}), project.root / "towns.parquet")
    project.config["events"]["lookups"] = [{"file": "towns.parquet", "by": "quantity", "columns": ["area"]}]


def _public_keys_with_null(project: Any) -> None:
    pq.write_table(pa.table({"shop": [KEY, None]}), project.root / "keys.parquet")
    project.release["keys"]["from"] = "keys.parquet"


BAD_INPUT = [
    _damaged,
    _truncated,
    _sum_of_text,
    _float_key,
    _period_of_text,
    _missing_column,
    _other_types,
    _lookup_twice,
    _lookup_of_other_type,
    _public_keys_with_null,
]


@pytest.mark.parametrize("spoil", BAD_INPUT, ids=[spoil.__name__.strip("_") for spoil in BAD_INPUT])
def test_s3_bad_input(canary, spoil):
    """Every path that ends with exit 4."""
    spoil(canary)
    ended = canary.run()
    assert ended.status == 4, ended.err
    assert_nowhere(canary, ended)


FAULTS = [
    (sum_by_unit, "sum_by_unit"),
    (sum_by_unit, "make_ids"),
    (exchange, "decode"),
    (sum_by_key, "sum_by_key"),
    (release_keys, "release_keys"),
]


@pytest.mark.parametrize(("module", "name"), FAULTS, ids=[name for _, name in FAULTS])
@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, pa.ArrowInvalid, UnicodeError, MemoryError])
def test_s3_a_fault_of_our_own(canary, monkeypatch, module, name, kind):
    """Whatever a step raises with data in its message: only its kind and place are told."""

    def faulty(*_: Any) -> Any:
        if kind is UnicodeError:
            raise UnicodeEncodeError("utf-8", f"{ID} {KEY} {VALUE}", 0, 1, ID)
        raise kind(f"{ID} {KEY} {VALUE}")

    monkeypatch.setattr(module, name, faulty)
    ended = canary.run()
    assert ended.status in (1, 4, 5)
    assert len(ended.complaint.splitlines()) == 1, ended.err
    assert_nowhere(canary, ended)
    canary.assert_nothing_published()


def test_s3_an_element_that_beam_cannot_encode(canary, monkeypatch):
    """Beam's own error prints the element: ours must not, nor the log at the level that `main` sets."""
    send = exchange.Exchange.send
    monkeypatch.setattr(exchange.Exchange, "send", lambda *arguments: [(KEY, ID) for _ in send(*arguments)])
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.NOTSET)
    ended = canary.run()
    assert ended.status in (1, 5)
    assert_nowhere(canary, ended)


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_s3_real_processes(project, mode):
    """Workers that are processes print to the same terminal; a damaged file makes them fail."""
    project.write_events(canary_events(project.base))
    _damaged(project)
    options = ["--json", "--direct_num_workers=2", f"--direct_running_mode={mode}"]
    ended = project.process("run", str(project.write_config()), "--run-id", "one", *options)
    assert ended.status == 4, ended.err
    project.raised, project.log = [], type("Log", (), {"text": ""})
    assert_nowhere(project, ended)
    project.write_events(canary_events(project.base))
    ended = project.process("run", str(project.write_config()), "--run-id", "two", *options)
    assert json.loads(ended.out)["drawn"] is True
    assert_nowhere(project, ended)
