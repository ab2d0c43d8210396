"""A ledger in a file: what it refuses, what it keeps, and what becomes of it when file or disk are damaged (R8, R9, R12)."""

import argparse
import datetime
import os
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ledger import CHARGES, fill, reserve
from ledger import entries as entries_module
from ledger.ledger import DEFAULT_LIMIT, Ledger
from ledger.store import open_store
from ledger.tables import HEAD
from pipelines.config import parse_config
from pipelines.ledger_commands import run_ledger_command
from privacy.pots import Limit, Pots
from tests.ledger.asking import LIMIT, UNIT, ask, cost_of, days
from tests.privacy.plans import budget
from transforms.errors import BudgetError, CheckError, ConfigError, DiscreetError, RunnerError, Status


def opened(file: Path) -> Ledger:
    """By somebody who remembers nothing."""
    return Ledger(open_store(f"sqlite:///{file}"))


def execute(file: Path, *statements: str) -> int:
    """Edits the database behind the ledger's back. Returns how many rows that changed."""
    with closing(sqlite3.connect(file)) as connection:
        changed = sum(connection.execute(statement).rowcount for statement in statements)
        connection.commit()
    return changed


def filled(ledger: Ledger) -> None:
    """One charge of each state and a limit that was raised: nine entries."""
    for run in ("a", "b", "c"):
        ledger.reserve(ask(run))
    ledger.settle("people", "a")
    ledger.void("people", "b", "why")
    ledger.set_limit("people", Limit(epsilon=2, delta=1e-6), "why")
    ledger.reserve(ask("d", limit=None))
    ledger.settle("people", "d")


def spent(ledger: Ledger) -> list[Pots]:
    book = ledger.book("people")
    assert book is not None
    return book.spent()


# What a ledger does


def test_exactly_so_many_fit(ledger):
    """Three fit; the fourth is refused with what is spent, what it needs, and what to do; nothing was written for it."""
    for run in ("a", "b", "c"):
        assert ledger.reserve(ask(run)).state == "reserved"
    with pytest.raises(BudgetError) as refused:
        ledger.reserve(ask("d", fitting=lambda fits: 0.25 if fits(Pots()) else None))
    for part in (
        "people",
        "85.7% of its limit",
        "epsilon 1",
        "another 28.6%",
        "run d",
        "0.25 would fit",
        "discreet ledger limit",
    ):
        assert part in str(refused.value), str(refused.value)
    with pytest.raises(BudgetError, match="nothing fits any more"):
        ledger.reserve(ask("d"))
    assert spent(ledger) == [cost_of(3).times(3)]


def test_the_first_run_does_not_fit(ledger):
    """Refused, and no book is opened: neither unit nor limit are fixed by it."""
    with pytest.raises(BudgetError, match=r"0\.0% of its limit"):
        ledger.reserve(ask("a", LIMIT_AND_MORE))
    assert ledger.books() == []
    assert ledger.reserve(ask("a", unit=UNIT | {"columns": ["other"]})).number == 2


LIMIT_AND_MORE = Pots(mu2=LIMIT.mu2 * 2)


def test_the_limit_where_none_is_declared(ledger):
    """(10, 1e-5)."""
    ledger.reserve(ask("a", limit=None))
    assert ledger.book("people").limit == DEFAULT_LIMIT == Limit(epsilon=10, delta=1e-5)


def test_r7_the_same_run_again_is_free(ledger, file):
    """While it is reserved: the same charge, and no entry more, also when nothing else fits any more."""
    first = ledger.reserve(ask("a", cost_of(1)))
    again = opened(file).reserve(ask("a", cost_of(1)))
    assert (again.digest, again.number) == (first.digest, first.number)
    assert ledger.book("people").last.number == 2
    ledger.set_limit("people", Limit(epsilon=0.1, delta=1e-6), "less")
    assert ledger.reserve(ask("a", cost_of(1), limit=None)).digest == first.digest
    with pytest.raises(BudgetError):
        ledger.reserve(ask("b", cost_of(1), limit=None))


def test_r7_the_same_run_with_another_config(ledger):
    """Refused, with what differs; reserved or settled."""
    ledger.reserve(ask("a"))
    other = ask("a", config={"dataset": "people", "output": {"path": "elsewhere"}}, config_digest="other")
    for _ in ("reserved", "settled"):
        with pytest.raises(ConfigError, match=r"another config \(output\.path\); choose another --run-id"):
            ledger.reserve(other)
        ledger.settle("people", "a")
    assert spent(ledger) == [cost_of(3)]


def test_r7_the_same_run_on_other_files(ledger):
    """Refused: it would be another release under the first one's charge."""
    ledger.reserve(ask("a"))
    with pytest.raises(ConfigError, match="other files"):
        ledger.reserve(ask("a", inputs="others"))


def test_r1_the_first_draw_of_a_run_stays(ledger):
    """Another one is refused, and so is drawing again or giving the charge back."""
    ledger.reserve(ask("a"))
    assert ledger.draw("people", "a", "first", cost_of(3)).run == "a"
    assert ledger.draw("people", "a", "first", cost_of(3)).drawn == "first"
    with pytest.raises(CheckError, match="another draw"):
        ledger.draw("people", "a", "second", cost_of(3))
    with pytest.raises(CheckError, match="never drawn"):
        ledger.reserve(ask("a"))
    ledger.void("people", "a", "")
    assert ledger.book("people").charge("a").state == "reserved"
    assert ledger.book("people").last.number == 3


def test_a_charge_for_other_noise_is_not_gone_on_with(ledger):
    """Another version of Discreet may plan the same config with other noise."""
    ledger.reserve(ask("a"))
    with pytest.raises(CheckError, match="other noise"):
        ledger.reserve(ask("a", pots=cost_of(4)))
    with pytest.raises(CheckError, match="other noise"):
        ledger.draw("people", "a", "first", cost_of(4))


def test_r7_a_settled_run_is_never_drawn_again(ledger):
    """Status 6."""
    ledger.reserve(ask("a"))
    ledger.settle("people", "a")
    with pytest.raises(CheckError, match="never drawn again"):
        ledger.reserve(ask("a"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("columns", ["user", "day"]),
        ("columns", ["household"]),
        ("rows", 10),
        ("periods", {"day": {"truncate": "at", "to": "day", "timezone": "Europe/Berlin"}}),
        ("spellings", {"user": ["trim"]}),
    ],
)
def test_r12_another_unit_is_refused(ledger, field, value):
    """With what differs, also where there is room for much more; another dataset may have it."""
    ledger.reserve(ask("a"))
    with pytest.raises(BudgetError, match=rf"another privacy unit \({field} differs\)"):
        ledger.reserve(ask("b", unit=UNIT | {field: value}))
    assert ledger.book("people").last.number == 2
    assert ledger.reserve(ask("b", unit=UNIT | {field: value}, dataset="others")).number == 2


def test_r12_another_type_of_the_unit_is_refused(ledger):
    """1 and "1" are different people. Before the files were looked at, nothing is compared."""
    ledger.reserve(ask("a", unit_types={"user": "integer"}))
    with pytest.raises(BudgetError, match="types differs"):
        ledger.reserve(ask("c", unit_types={"user": "string"}))
    assert ledger.check(ask("c"), ledger.book("people")) is None
    assert ledger.reserve(ask("c", unit_types={"user": "integer"})).state == "reserved"


def test_windows(ledger):
    """Three fit on each day, and runs on all days take from each of them."""
    with_days = UNIT | {"columns": ["user", "day"]}

    def reserve(run: str, window: Any) -> None:
        ledger.reserve(ask(run, unit=with_days, window=window))

    for day in range(3):
        for number in range(3):
            reserve(f"day{day}.{number}", days(day, day))
        with pytest.raises(BudgetError):
            reserve(f"day{day}.3", days(day, day))
    for window in (days(0, 9), days(2, 3), None):
        with pytest.raises(BudgetError):
            reserve("more", window)
    reserve("next", days(3, 9))
    ledger.set_limit("people", Limit(epsilon=1.1, delta=1e-6), "one more on each day")
    ledger.reserve(ask("all", unit=with_days, limit=None))
    with pytest.raises(BudgetError):
        ledger.reserve(ask("one more", unit=with_days, window=days(1, 1), limit=None))


def test_a_limit_is_raised_and_lowered(ledger):
    """What did not fit fits; lowered below what is spent, nothing fits, and nothing that was charged is lost."""
    for run in ("a", "b", "c"):
        ledger.reserve(ask(run))
    ledger.set_limit("people", Limit(epsilon=1.5, delta=2e-6), "we asked them")
    with pytest.raises(ConfigError, match=r"ledger\.limit: is epsilon 1, delta 1e-06, but the ledger's is epsilon 1\.5"):
        ledger.reserve(ask("d"))
    ledger.reserve(ask("d", limit=Limit(epsilon=1.5, delta=2e-6)))
    ledger.set_limit("people", Limit(epsilon=0.5, delta=1e-6), "they asked us")
    book = ledger.book("people")
    assert book.part() > 1
    for pots in (cost_of(3), Pots(mu2=cost_of(10**9).mu2)):
        with pytest.raises(BudgetError):
            ledger.reserve(ask("e", pots, limit=None))
    assert spent(ledger) == [cost_of(3).times(4)]
    assert [limit.get("reason") for limit in book.limits] == [None, "we asked them", "they asked us"]
    with pytest.raises(BudgetError, match="nothing was ever charged on dataset other"):
        ledger.set_limit("other", LIMIT, "why")


def test_void_and_settle(ledger):
    """A void gives back and frees the run id; to settle twice, or to void what is settled, does nothing."""
    ledger.reserve(ask("a"))
    ledger.void("people", "a", "read nothing")
    assert spent(ledger) == [Pots()]
    second = ledger.reserve(ask("a", config_digest="other"))
    assert second.number == 4
    for _ in range(2):
        ledger.settle("people", "a")
    ledger.void("people", "a", "too late")
    assert [charge.state for charge in ledger.book("people").charges] == ["void", "settled"]
    assert ledger.book("people").last.number == 5
    assert spent(ledger) == [cost_of(3)]


def test_what_was_never_charged(ledger):
    """Cannot be settled, voided or published."""
    with pytest.raises(CheckError, match="has no charge for run a"):
        ledger.settle("people", "a")
    ledger.reserve(ask("a"))
    for call in (
        lambda: ledger.settle("people", "b"),
        lambda: ledger.void("people", "b", ""),
        lambda: ledger.draw("people", "b", "x", cost_of(3)),
    ):
        with pytest.raises(CheckError, match="has no charge for run b"):
            call()
    with pytest.raises(CheckError, match="has no charge"):
        ledger.draw("others", "a", "x", cost_of(3))


def test_r13_two_charges_of_the_same_have_different_digests(ledger):
    """The digest is published; a nonce that nobody sees keeps files from being guessed by it."""
    charges = [ledger.reserve(ask("a", dataset=name)) for name in ("one", "two")]
    nonces = {charge.content["nonce"] for charge in charges}
    assert len({charge.digest for charge in charges}) == 2
    assert {len(bytes.fromhex(nonce)) for nonce in nonces} == {32}
    assert len(nonces) == 2


@pytest.mark.parametrize("hours", [-48, 48, -24 * 365 * 50])
def test_r9_a_clock_that_is_moved(ledger, monkeypatch, hours):
    """Charges of the past or of the future count like any other, in the order of their entries; nothing comes back."""

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(hours=hours)

    class Module:
        datetime, UTC = Moved, datetime.UTC

    ledger.reserve(ask("a"))
    with monkeypatch.context() as patch:
        patch.setattr(entries_module, "datetime", Module)
        ledger.reserve(ask("b"))
        ledger.settle("people", "a")
    ledger.reserve(ask("c"))
    times = [charge.content["time"] for charge in ledger.book("people").charges]
    assert sorted(times) != times or hours > 0
    assert times[1][:10] != times[0][:10]
    for moved in (False, True):
        with monkeypatch.context() as patch:
            if moved:
                patch.setattr(entries_module, "datetime", Module)
            with pytest.raises(BudgetError):
                ledger.reserve(ask("d"))
    assert spent(ledger) == [cost_of(3).times(3)]


# R8: the file


def assert_refused(file: Path, statuses: set[Status], what: str = ";") -> str:
    """Each thing that can be done with a ledger is refused, with the reason, and the file stays as it is."""
    before = file.read_bytes() if file.exists() else None
    calls: list[Callable[[], object]] = [
        lambda: opened(file).book("people"),
        lambda: opened(file).books(),
        lambda: opened(file).reserve(ask("z", limit=None)),
        lambda: opened(file).settle("people", "c"),
        lambda: opened(file).void("people", "c", "why"),
        lambda: opened(file).set_limit("people", LIMIT, "why"),
    ]
    for call in calls:
        with pytest.raises(DiscreetError, match=what) as refused:
            call()
        assert refused.value.status in statuses, refused.value
        assert ";" in str(refused.value)
    assert (file.read_bytes() if file.exists() else None) == before
    return str(refused.value)


def test_r8_a_missing_ledger_is_not_an_empty_one(ledger, file):
    """Status 3, and none is made; neither where it was opened before."""
    filled(ledger)
    file.unlink()
    assert_refused(file, {Status.BUDGET}, "there is none; restore it")
    with pytest.raises(BudgetError, match="there is none"):
        ledger.book("people")
    assert not file.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"garbage" * 1000, b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 8176]
)
def test_r8_a_file_that_is_no_ledger(file, content):
    """Status 5, and it is not made one; `init` leaves it alone as well."""
    file.write_bytes(content)
    assert_refused(file, {Status.RUNNER}, "the database failed")
    assert not open_store(f"sqlite:///{file}").create()
    assert file.read_bytes() == content


def test_r8_another_applications_database(file):
    """Which has tables of its own."""
    file.unlink()
    execute(file, "create table entries (a)")
    assert_refused(file, {Status.RUNNER})


@pytest.mark.parametrize("kept", [0, 1, 1024, 4095])
def test_r8_a_truncated_ledger(ledger, file, kept):
    """Wherever it is cut off, so many bytes into a page, no entry goes unnoticed."""
    filled(ledger)
    whole, book = file.read_bytes(), ledger.book("people")
    assert len(whole) > 16_000
    for size in range(kept, len(whole), 4096):
        file.write_bytes(whole[:size])
        try:
            found = opened(file).book("people")
        except (RunnerError, CheckError):
            continue
        assert found == book, f"cut off at {size} of {len(whole)}"


def test_r8_each_edit_of_the_database_is_noticed(ledger, file):
    """Every field of every entry, every removal but of the last ones, swaps, and an entry that was put in: status 6."""
    filled(ledger)
    whole, entries = file.read_bytes(), ledger.book("people").last.number
    assert entries == 9
    fields = ("dataset", "kind", "body", "before", "digest")
    cases = [f"update entries set {name} = {name} || ' ' where number = {n}" for name in fields for n in range(1, entries + 1)]
    cases += [f"update entries set {name} = '' where number = {n}" for name in fields for n in range(2, entries + 1)]
    cases += [f"update entries set number = number + 100 where number = {n}" for n in range(1, entries + 1)]
    cases += [f"delete from entries where number = {n}" for n in range(1, entries)]
    cases += [f"delete from entries where number <= {n}" for n in range(1, entries)]
    cases += ["update entries set number = -number", "update entries set number = number + 1000"]
    cases += [
        f"insert into entries select dataset, {n}, kind, body, before, digest from entries where number = 3" for n in (0, 10, 99)
    ]
    cases += [
        f"update entries set (body, digest) = (select body, digest from entries where number = {7 - n}) where number = {n}"
        for n in (2, 3, 4)
    ]
    for statement in cases:
        file.write_bytes(whole)
        assert execute(file, statement) > 0, statement
        with pytest.raises(CheckError, match="restore the ledger from a backup"):
            pytest.fail(f"{statement}: {opened(file).books()}")
    execute(file, "delete from entries where number = 2")
    assert_refused(file, {Status.CHECK}, "is missing or was changed")


def test_r8_a_swap_of_whole_entries(ledger, file):
    """Two charges change their places."""
    filled(ledger)
    moves = [(2, 1000), (3, 2), (1000, 3)]
    execute(file, *[f"update entries set number = {new} where number = {old}" for old, new in moves])
    assert_refused(file, {Status.CHECK})


def test_r8_the_last_entries_are_gone(ledger, file):
    """What the digests cannot notice: the loss of the end. The lost charge's digest is unknown then, by which manifests tell."""
    filled(ledger)
    lost = ledger.book("people").charge("d").digest
    assert execute(file, "delete from entries where number >= 8") == 2
    assert lost not in {charge.digest for charge in opened(file).book("people").charges}


@pytest.mark.parametrize("field", ["kind", "body", "before"])
def test_r8_a_blob_in_place_of_a_text(ledger, file, field):
    """SQLite keeps whatever it is given."""
    filled(ledger)
    assert execute(file, f"update entries set {field} = x'00ff' where number = 3")
    assert_refused(file, {Status.CHECK, Status.RUNNER})


def test_r8_no_flipped_bit_hides_charges(ledger, file):
    """One bit in the file: all charges are read, or it is noticed."""
    for number in range(50):
        ledger.reserve(ask(f"r{number}", cost_of(1000)))
    whole = file.read_bytes()
    book = opened(file).book("people")
    wrong = []
    for place in (19881, 20029, *range(16384, 20480, 64), *range(0, len(whole), 1021)):
        for bit in (1, 16):
            flipped = bytearray(whole)
            flipped[place] ^= bit
            file.write_bytes(flipped)
            try:
                found = opened(file).book("people")
            except (DiscreetError, TypeError):
                continue
            if found is None or found.charges != book.charges:
                wrong.append((place, bit, found and len(found.charges)))
    assert not wrong


def test_r8_a_ledger_of_a_newer_version(ledger, file):
    """Status 2: this Discreet does not know what it says."""
    filled(ledger)
    assert execute(file, "update discreet_ledger_version set version_num = '9999'") == 1
    message = assert_refused(file, {Status.CONFIG})
    assert "9999" in message
    assert HEAD in message
    execute(file, "delete from discreet_ledger_version")
    assert_refused(file, {Status.CONFIG, Status.RUNNER})


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def reserve_until(ledger: Ledger, message: str) -> int:
    """Charges one run after the other until the disk refuses with this message. Returns how many were charged."""
    for done in range(1000):
        try:
            ledger.reserve(ask(f"r{done}", cost_of(1000)))
        except RunnerError as error:
            if message not in str(error):
                raise
            return done
    raise AssertionError("the disk took everything")


def test_f4_a_file_that_cannot_grow(ledger, file):
    """Status 5 after some charges; what is charged by then is there, and with room it goes on."""
    with largest_file(file.stat().st_size + 8192):
        done = reserve_until(ledger, "the database failed")
    assert done > 0
    assert len(opened(file).book("people").charges) == done
    assert opened(file).reserve(ask(f"r{done}", cost_of(1000))).state == "reserved"
    assert not list(file.parent.glob("*-journal"))


def test_f4_init_where_no_file_can_grow(tmp_path):
    """Status 5, and nothing stays."""
    with largest_file(4096), pytest.raises(RunnerError):
        open_store(f"sqlite:///{tmp_path}/new/ledger.db").create()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path, empty: bytes) -> Iterator[Path]:
    """A ledger on a disk of its own, with 40 KB of room. Skips where that is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("not permitted to mount a file system: untested")
    try:
        (place / "ledger.db").write_bytes(empty)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_f4_the_disk_is_full(small_disk):
    """Status 5; no charge is half there; settled is what has published as soon as there is room."""
    ledger = opened(small_disk / "ledger.db")
    done = reserve_until(ledger, "full")
    assert done > 3
    assert len(ledger.book("people").charges) == done
    subprocess.run(["mount", "-o", "remount,size=10m", small_disk], check=True)
    ledger.settle("people", "r0")
    assert ledger.reserve(ask(f"r{done}", cost_of(1000))).state == "reserved"


def test_f4_a_disk_that_takes_no_files(small_disk):
    """A read-only file and folder: it can be read, and nothing can be charged."""
    ledger = opened(small_disk / "ledger.db")
    ledger.reserve(ask("a"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert [charge.run for charge in ledger.book("people").charges] == ["a"]
    for call in (lambda: ledger.reserve(ask("b")), lambda: ledger.settle("people", "a")):
        with pytest.raises(RunnerError, match="readonly"):
            call()
    with pytest.raises(OSError, match="Read-only"):
        open_store(f"sqlite:///{small_disk}/new/ledger.db").create()


def test_f4_a_folder_that_may_not_be_written(tmp_path, empty):
    """Somebody else's, for a process without privileges: can be read, status 5 for charging."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else: untested")
    folder = Path("/tmp") / f"discreet-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        (folder / "ledger.db").write_bytes(empty)
        (folder / "ledger.db").chmod(0o644)
        child = os.fork()
        if child == 0:
            os._exit(_as_nobody(folder / "ledger.db"))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == int(Status.RUNNER)
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _as_nobody(file: Path) -> int:
    os.setgid(65534)
    os.setuid(65534)
    try:
        ledger = opened(file)
        if ledger.books() != []:
            return 100
        ledger.reserve(ask("a"))
    except DiscreetError as error:
        return int(error.status)
    return 101


# URLs


@pytest.mark.parametrize(
    "folder", ["with space", "ünï", "a#b", "a&b;c=d", "it's", 'q"uote', "back\\slash", ":x@y", "~", "100%", "a+b", "new\nline"]
)
def test_odd_characters_in_the_path(tmp_path, folder):
    """The file is where the path says, and nowhere else."""
    url = f"sqlite:///{tmp_path}/{folder}/ledger.db"
    assert open_store(url).create()
    assert (tmp_path / folder / "ledger.db").is_file()
    assert Ledger(open_store(url)).reserve(ask("a")).state == "reserved"
    assert len(Ledger(open_store(url)).books()) == 1
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"ledger.db"}


def test_an_encoded_percent_sign(tmp_path):
    """%25 is a percent sign, and what follows it is not encoded."""
    url = f"sqlite:///{tmp_path}/a%2541/ledger.db"
    assert open_store(url).create()
    assert (tmp_path / "a%41/ledger.db").is_file()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "nothing",
            "sqlite",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            "sqlite:///?mode=memory",
            "///x",
            "ledger.db",
        ),
        *("mysql://u:secret@h/d", "oracle://u:secret@h/d", "postgresql//u:secret@h/d", "sqlite//secret"),
        *("http://u:secret@h", "mssql+pyodbc://u:secret@h/d?driver=x", "postgresql+pg8000://u:secret@h/d"),
    ],
)
def test_urls_that_are_refused(url):
    """Status 2, without the password."""
    with pytest.raises(ConfigError, match=r"ledger\.url") as refused:
        open_store(url).exists()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:secret@h:port/d", "postgresql+nosuch://u:secret@h/d", "sqlite:///x%00y"])
def test_urls_that_are_refused_with_a_word(url):
    """A port that is no number, a driver that there is not, a path that is none."""
    with pytest.raises(ConfigError):
        open_store(url).exists()


def test_a_password_is_not_shown():
    """In the ledger's name."""
    assert "secret" not in open_store("postgresql+psycopg://u:secret@h/d").name


@pytest.mark.parametrize("option", ["password", "sslpassword"])
def test_a_password_among_the_options_is_not_shown(option):
    """libpq takes it there as well: refused."""
    with pytest.raises(ConfigError, match="PGPASSWORD") as refused:
        open_store(f"postgresql+psycopg://u@h/d?{option}=secret")
    assert "secret" not in str(refused.value)


# The config, and copies

CONFIG = """
version: 1
dataset: people
events: {files: a.parquet, privacy_unit: user}
budget: {epsilon: 1, delta: 1e-6}
releases: [{name: r, keys: {columns: [k]}, bounds: {keys_per_unit: 1, rows_per_key: 1}, metrics: [{name: m, count: events}]}]
output: {path: out}
"""


@pytest.mark.parametrize(
    "ledger",
    [
        *("{limit: {epsilon: 0, delta: 1e-5}}", "{limit: {epsilon: -1, delta: 1e-5}}", "{limit: {epsilon: .nan, delta: 1e-5}}"),
        *("{limit: {epsilon: 1e400, delta: 1e-5}}", "{limit: {epsilon: .inf, delta: 1e-5}}", "{limit: {epsilon: 1, delta: 0}}"),
        *(
            "{limit: {epsilon: 1, delta: 1}}",
            "{limit: {epsilon: 1, delta: nan}}",
            "{limit: {epsilon: 1}}",
            "{limit: {delta: 1e-5}}",
        ),
        *(
            "{limit: {epsilon: one, delta: 1e-5}}",
            "{limit: 10}",
            "{limit: [10, 1e-5]}",
            "{limit: {epsilon: 1, delta: 1e-5, rho: 1}}",
        ),
        *(
            "{url: ''}",
            "{url: [a]}",
            "{url: {a: b}}",
            "{path: ledger.db}",
            "{limits: {epsilon: 1, delta: 1e-5}}",
            "[a]",
            "ledger.db",
        ),
        *("{limit: {epsilon: '', delta: 1e-5}}", "{limit: {epsilon: true, delta: 1e-5}}", "{limit: {epsilon: [1], delta: 1e-5}}"),
    ],
)
def test_r11_a_malformed_ledger_in_the_config(ledger):
    """Refused with where and a cure."""
    assert parse_config(CONFIG).ledger is None
    assert parse_config(CONFIG + "ledger: {limit: {epsilon: 1, delta: 1e-5}}").ledger is not None
    with pytest.raises(ConfigError, match=r"^ledger") as refused:
        parse_config(CONFIG + f"ledger: {ledger}")
    assert ";" in str(refused.value)


def test_the_ledger_changes_nothing_in_a_release():
    """Neither the digest of the config nor what a manifest repeats of it; so no URL is ever published."""
    plain, with_one = parse_config(CONFIG), parse_config(CONFIG + "ledger: {url: 'postgresql://u:secret@h/d'}")
    assert plain.digest() == with_one.digest()
    assert "secret" not in str(with_one.resolved())
    assert budget(1, 1e-6).epsilon == plain.budget.epsilon


def copy(source: Path, target: Path) -> Any:
    """`discreet ledger copy`."""
    asked = argparse.Namespace(ledger=f"sqlite:///{source}", config=None, dataset=None, action="copy", to=f"sqlite:///{target}")
    return run_ledger_command(asked).values


def test_a_copy_is_the_same(ledger, file, tmp_path):
    """Every entry of every dataset, digests included; the copy is not made into a ledger that is there."""
    filled(ledger)
    ledger.reserve(ask("x", dataset="others"))
    assert copy(file, tmp_path / "copy.db")["entries"] == 11
    assert [opened(tmp_path / "copy.db").book(name) for name in ("others", "people")] == ledger.books()
    with pytest.raises(ConfigError, match="is there already"):
        copy(file, tmp_path / "copy.db")


def test_r8_a_copy_of_an_edited_ledger_is_refused(ledger, file, tmp_path):
    """An edit that `verify` notices must not become a ledger that holds together."""
    ledger.reserve(ask("a"))
    pots = str(cost_of(3).mu2)
    assert execute(file, f"update entries set body = replace(body, '{pots}', '0') where number = 2") == 1
    with pytest.raises(CheckError):
        opened(file).book("people")
    with pytest.raises(CheckError):
        copy(file, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_r8_a_copy_that_dies_leaves_no_ledger(ledger, file, tmp_path, monkeypatch):
    """Half a copy would be a ledger in which less is spent."""
    for dataset in ("one", "two"):
        ledger.reserve(ask("a", dataset=dataset))
    with monkeypatch.context() as patch:
        patch.setattr("ledger.tables._insert", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            copy(file, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("windows", [False, True])
def test_ten_years_of_nightly_runs(file, windows):
    """3,650 charges: to charge one more, and to see what is spent, stay a matter of seconds (measured: `make bench-ledger`)."""
    fill(open_store(f"sqlite:///{file}"), windows)
    took = reserve(f"sqlite:///{file}", CHARGES, windows)
    book = opened(file).books()[0]
    assert len(book.charges) == CHARGES + 1
    assert len(book.spent()) == (CHARGES + 1 + 2 if windows else 1)  # and before and after them
    assert took < 10
