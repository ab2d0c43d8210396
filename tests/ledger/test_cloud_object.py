"""A ledger as an object on Cloud Storage, on an emulator of it, with calls that fail."""

import gzip
import json
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.storage import retry

from ledger import cloud_object
from ledger.ledger import Ledger
from ledger.store import open_store
from privacy.pots import Limit
from tests.faulty_proxy import Fault, Proxy
from tests.ledger.asking import ask, call, cost_of
from tests.servers import CloudStorage
from transforms.errors import BudgetError, ConfigError, DiscreetError, RunnerError, Status

# Google's client leaves the connections of failed calls to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket")


@pytest.fixture
def url(bucket: str) -> str:
    """Where a ledger can be made."""
    return f"gs://{bucket}/ledger/"


@pytest.fixture
def ledger(url: str) -> Ledger:
    """An empty one."""
    assert open_store(url).create()
    return Ledger(open_store(url))


@pytest.fixture
def proxy(emulator: CloudStorage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Between an empty ledger and whoever opens it from now on. Waits are short."""
    monkeypatch.setattr(retry, "DEFAULT_RETRY", retry.DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.01))
    with Proxy(emulator.port) as made:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", made.host)
        yield made


def content(emulator: CloudStorage, url: str) -> bytes:
    """The object, as anybody can download it."""
    bucket, folder = url.removeprefix("gs://").split("/", 1)
    name = urllib.parse.quote(f"{folder}ledger.db.gz", safe="")
    with urllib.request.urlopen(f"{emulator.host}/storage/v1/b/{bucket}/o/{name}?alt=media") as answer:
        return bytes(answer.read())


def put(emulator: CloudStorage, url: str, replaced: bytes) -> None:
    """Replaces the object behind the ledger's back."""
    bucket, folder = url.removeprefix("gs://").split("/", 1)
    name = urllib.parse.quote(f"{folder}ledger.db.gz", safe="")
    path = f"{emulator.host}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
    urllib.request.urlopen(urllib.request.Request(path, replaced, method="POST")).close()


def test_from_init_to_verify(url):
    """Refused where there is no ledger yet; made once; charged, settled, shown and verified."""
    for action in ("show", "runs", "verify"):
        with pytest.raises(BudgetError, match="there is none"):
            call(url, action)
    assert call(url, "init") == {"made": url}
    with pytest.raises(ConfigError, match="is there already"):
        call(url, "init")
    ledger = Ledger(open_store(url))
    ledger.reserve(ask("a"))
    ledger.draw("people", "a", "digest", cost_of(3))
    ledger.settle("people", "a")
    ledger.reserve(ask("b"))
    ledger.void("people", "b", "nothing was read")
    assert call(url, "show")["datasets"][0]["runs"] == {"settled": 1, "reserved": 0, "void": 1}
    assert call(url, "verify")["entries"] == 6
    call(url, "limit", epsilon=2.0, delta=1e-6, reason="why", dataset="people")
    assert call(url, "show")["datasets"][0]["limit"] == {"epsilon": 2.0, "delta": 1e-6}


def test_the_object_is_a_gzipped_sqlite_database(emulator, url, ledger, tmp_path):
    """Which any tool can look into, and Discreet itself."""
    ledger.reserve(ask("a"))
    (tmp_path / "copy.db").write_bytes(gzip.decompress(content(emulator, url)))
    assert Ledger(open_store(f"sqlite:///{tmp_path}/copy.db")).books() == ledger.books()


def test_copies(url, ledger, tmp_path):
    """From SQLite and back: the same entries."""
    for run in ("a", "b"):
        ledger.reserve(ask(run))
    call(url, "copy", to=f"sqlite:///{tmp_path}/here.db")
    call(f"sqlite:///{tmp_path}/here.db", "copy", to=url.replace("/ledger/", "/other/"))
    assert Ledger(open_store(url.replace("/ledger/", "/other/"))).books() == ledger.books()
    with pytest.raises(ConfigError, match="is there already"):
        call(f"sqlite:///{tmp_path}/here.db", "copy", to=url)


@pytest.mark.parametrize("path", ["", "/", "/ledger", "/a/b/c/"])
def test_urls(bucket, path):
    """With a folder or none; the slash at the end may be left out."""
    store = open_store(f"gs://{bucket}{path}")
    assert store.name == f"gs://{bucket}{path}".rstrip("/") + "/"
    assert store.create()
    assert open_store(store.name).exists()


@pytest.mark.parametrize(
    "url", ["gs://", "gs:///a", "gs://B/", "gs://b", "gs://bucket//a", "gs://bucket/../a", "gs://bucket/a?b", "gs://bucket/*"]
)
def test_urls_that_are_none(url):
    """Status 2, naming a right one."""
    with pytest.raises(ConfigError, match="gs://bucket/ledger/"):
        open_store(url)


def test_somebody_else_was_faster(url, ledger):
    """What was read is out of date: the entry is made anew, after the other one."""
    first, second = Ledger(open_store(url)), Ledger(open_store(url))
    assert first.book("people") is second.book("people") is None
    made = [first.reserve(ask("a")), second.reserve(ask("b"))]
    assert [charge.digest for charge in ledger.book("people").charges] == [charge.digest for charge in made]
    second.settle("people", "a")
    assert [charge.state for charge in first.book("people").charges] == ["settled", "reserved"]


@pytest.mark.parametrize("damage", ["cut", "changed", "no gzip", "no database", "empty"])
def test_r8_a_damaged_object(emulator, url, ledger, damage):
    """Status 6 or 5, and it stays as it is."""
    ledger.reserve(ask("a"))
    old = content(emulator, url)
    replaced = {
        "cut": old[:-20],
        "changed": gzip.compress(gzip.decompress(old).replace(b'"run":"a"', b'"run":"z"')),
        "no gzip": b"nothing",
        "no database": gzip.compress(b"nothing" * 1000),
        "empty": gzip.compress(b""),
    }[damage]
    assert replaced != old
    put(emulator, url, replaced)
    for act in (lambda: Ledger(open_store(url)).reserve(ask("b")), lambda: call(url, "verify")):
        with pytest.raises(DiscreetError) as refused:
            act()
        assert refused.value.status in (Status.CHECK, Status.RUNNER)
        assert len(str(refused.value).splitlines()) == 1
    assert content(emulator, url) == replaced


def test_a_bucket_that_there_is_not(emulator, monkeypatch):
    """There is no ledger in it, and none can be made."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.host)
    with pytest.raises(BudgetError, match="there is none"):
        call("gs://nowhere/ledger/", "show")
    with pytest.raises(RunnerError, match="404"):
        call("gs://nowhere/ledger/", "init")


def test_no_credentials(monkeypatch, tmp_path):
    """Status 5, naming what to do; nothing is called."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(RunnerError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        call("gs://bucket/ledger/", "show")


# Calls that fail


def history(url: str) -> None:
    """All that a ledger is asked for, by processes that know nothing of one another."""
    Ledger(open_store(url)).reserve(ask("a"))
    ledger = Ledger(open_store(url))
    ledger.draw("people", "a", "digest", cost_of(3))
    ledger.settle("people", "a")
    Ledger(open_store(url)).reserve(ask("b"))
    Ledger(open_store(url)).void("people", "b", "nothing was read")
    Ledger(open_store(url)).set_limit("people", Limit(epsilon=2.0, delta=1e-6), "why")


KINDS = ["open", "charge", "draw", "settle", "charge", "void", "limit"]


def kinds(url: str) -> list[str]:
    """What the ledger's entries are."""
    return [entry.kind for entry in open_store(url).entries("people")[0]]


def only(number: int, fault: Fault) -> Callable[[int], Fault | None]:
    """One call fails."""
    return lambda call: fault if call == number else None


@pytest.fixture
def calls(proxy: Proxy, url: str) -> int:
    """How many calls a history makes where none fails. They are made, in another folder."""
    other = url.replace("/ledger/", "/counted/")
    assert open_store(other).create()
    proxy.calls.clear()
    history(other)
    made = len(proxy.calls)
    assert kinds(other) == KINDS
    return made


@pytest.mark.parametrize("fault", ["429", "503", "lost", "unheard"])
def test_f4_a_call_that_fails_is_made_again(proxy, calls, url, fault):
    """Each of them, once: the history is the same, whether the call was heard or not."""
    for number in range(1, calls + 1):
        there = url.replace("/ledger/", f"/{number}/")
        assert open_store(there).create()
        proxy.calls.clear()
        proxy.fault = only(number, fault)
        history(there)
        assert len(proxy.calls) > calls
        proxy.fault = lambda _: None
        assert kinds(there) == KINDS


def test_f4_412_is_somebody_else(proxy, calls, url):
    """Each call, once: an upload is made anew; for a read it is a failure as any other."""
    for number in range(1, calls + 1):
        there = url.replace("/ledger/", f"/{number}/")
        assert open_store(there).create()
        proxy.calls.clear()
        proxy.fault = only(number, "412")
        try:
            history(there)
        except RunnerError:
            assert proxy.calls[number - 1].startswith("GET")
        proxy.fault = lambda _: None
        assert kinds(there) == KINDS[: len(kinds(there))]


@pytest.mark.parametrize("fault", ["429", "503", "403", "lost", "unheard"])
def test_f4_all_calls_fail_from_one_on(proxy, calls, url, fault, monkeypatch):
    """Status 5 in one sentence; the entries that are there are whole, and the history goes on from there."""
    monkeypatch.setattr(cloud_object, "RETRY_SECONDS", 0.1)
    for number in range(1, calls + 1, 3):
        there = url.replace("/ledger/", f"/{number}/")
        assert open_store(there).create()
        proxy.calls.clear()
        proxy.fault = lambda call, first=number: fault if call >= first else None
        with pytest.raises(RunnerError) as refused:
            history(there)
        assert len(str(refused.value).splitlines()) == 1
        assert there in str(refused.value)
        proxy.fault = lambda _: None
        before = kinds(there)
        assert before == KINDS[: len(before)]
        # Nothing that was told as failed is there but what was heard and not answered.
        if fault != "lost":
            assert len(before) <= number
        if "draw" not in before:
            Ledger(open_store(there)).reserve(ask("a"))
            assert kinds(there) == ["open", "charge"]


def test_f4_made_though_the_answer_was_lost(proxy, url):
    """It says that it was made, since it was."""
    there = url.replace("/ledger/", "/lost/")
    proxy.calls.clear()
    proxy.fault = only(1, "lost")
    assert open_store(there).create()
    assert [made.split()[0] for made in proxy.calls] == ["POST", "POST", "GET"]


def test_a_run_downloads_the_ledger_once(proxy, url):
    """What it has uploaded itself it knows."""
    ledger = Ledger(open_store(url))
    proxy.calls.clear()
    ledger.reserve(ask("a"))
    ledger.draw("people", "a", "digest", cost_of(3))
    ledger.settle("people", "a")
    assert [made for made in proxy.calls if "alt=media" in made] == proxy.calls[1:2]
    assert len(proxy.calls) == 7


def test_more_than_one_upload_can_carry(proxy, emulator, url):
    """Above 8 MiB Google's client uploads in pieces: still only over what was read."""
    import secrets

    wide: dict[str, Any] = {"dataset": "people", "output": {"path": "out"}, "wide": secrets.token_hex(8_000_000)}
    first, second = Ledger(open_store(url)), Ledger(open_store(url))
    first.book("people"), second.book("people")
    first.reserve(ask("a", config=wide))
    assert len(content(emulator, url)) > 8 * 2**20
    second.reserve(ask("b", config=wide))
    assert [charge.run for charge in Ledger(open_store(url)).book("people").charges] == ["a", "b"]
    assert json.loads(first.book("people").charges[0].content["config"]) == wide
