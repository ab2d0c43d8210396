"""B7: each file is read once, however often the config names it and by whatever name."""

import os
import shutil

import pyarrow as pa
import pytest

from tests.pipelines.published import ask, per_user, published, write_csv

ONCE = {"x": (60, 60)}
TWICE = {"x": (120, 60)}


@pytest.fixture
def sixty(project):
    """An event of each of 60 users, in events/a.parquet. Units are counted once in any case, events as often as read."""
    project.write_events(per_user(list(range(60))))
    ask(project, "all", {"all": ["x"]})
    return project


def test_another_file_of_the_same_events_counts_again(sixty):
    """A copy is another file: this is what the other tests would see of a file that is read twice."""
    shutil.copy("events/a.parquet", "events/b.parquet")
    assert published(sixty) == TWICE


NAMED = {
    "overlapping globs": ["events/*.parquet", "events/a*", "**/*.parquet", "e*/?.parquet"],
    "a file twice": ["events/a.parquet", "events/a.parquet"],
    "a file and a glob": ["events/*.parquet", "events/a.parquet"],
    "spellings of a path": ["events/a.parquet", "./events/a.parquet", "events//a.parquet", "events/../events/./a.parquet"],
    "an absolute path": ["events/a.parquet", "ROOT/events/a.parquet", "ROOT/*/*.parquet"],
}


@pytest.mark.parametrize("name", NAMED)
def test_b7_a_file_that_is_named_twice_is_read_once(sixty, name):
    sixty.config["events"]["files"] = [path.replace("ROOT", str(sixty.root)) for path in NAMED[name]]
    assert published(sixty) == ONCE


def test_b7_a_link_to_a_file(sixty):
    """In the same folder, in another one, to a link, and to the file by its absolute path."""
    os.symlink("a.parquet", "events/b.parquet")
    os.symlink("b.parquet", "events/c.parquet")
    os.mkdir("links")
    os.symlink(sixty.root / "events/a.parquet", "links/a.parquet")
    sixty.config["events"]["files"] = ["events/*.parquet", "links/*.parquet"]
    assert published(sixty, "all") == ONCE
    sixty.config["events"]["files"] = "links/a.parquet"
    assert published(sixty, "link-only") == ONCE


@pytest.mark.parametrize(
    "files",
    ["**/*.parquet", ["events/*.parquet", "linked/*.parquet"], ["linked/a.parquet", "events/a.parquet"], "linked/*.parquet"],
)
def test_b7_a_link_to_a_folder(sixty, files):
    os.symlink("events", "linked")
    sixty.config["events"]["files"] = files
    assert published(sixty) == ONCE


def test_b7_a_folder_that_links_to_itself(sixty):
    """A glob that crosses folders follows the link until the system ends it, and reads each file once."""
    os.mkdir("events/deep")
    os.symlink("..", "events/deep/up")
    sixty.write_events(per_user(list(range(60, 90))), "events/deep/b.parquet")
    sixty.config["events"]["files"] = "events/**/*.parquet"
    assert published(sixty) == {"x": (90, 90)}


def test_b7_links_to_nothing_are_no_files(sixty):
    os.symlink("gone.parquet", "events/b.parquet")
    assert published(sixty) == ONCE


def test_b7_files_of_one_name_in_several_folders_are_several(sixty):
    """Only the file itself counts: neither its name nor what is in it."""
    sixty.write_events(per_user(list(range(60, 90))), "events/more/a.parquet")
    sixty.config["events"]["files"] = ["events/*.parquet", "events/more/*.parquet"]
    assert published(sixty) == {"x": (90, 90)}


def test_b7_text_files_and_their_links(sixty):
    """Several parts of one run: CSV beside Parquet, each named twice."""
    write_csv(sixty, "user,all", *(f"{user},x" for user in range(60, 70)))
    os.symlink("a.csv", "events/b.csv")
    sixty.config["events"] |= {"files": ["events/*", "events/*.csv", "events/a.parquet"], "types": {"user": "int64"}}
    assert published(sixty) == {"x": (70, 70)}


@pytest.mark.parametrize("rows", [1, 3])
def test_b7_each_row_counts_once_where_rows_are_protected(sixty, rows):
    """Where k rows are the unit, a row that is read twice would be protected half as well."""
    os.symlink("events", "linked")
    sixty.config["events"] |= {"files": ["**/*.parquet", "linked/*"], "privacy_unit": {"rows": rows}}
    ask(sixty, "all", {"all": ["x"]}, [{"name": "events", "count": "events"}])
    del sixty.config["releases"][0]["bounds"]
    assert published(sixty) == {"x": 60}


def test_b4_files_of_other_types_are_refused_and_not_guessed(sixty):
    """Ids of 32 and of 64 bits, with and without a sign, text and number: one declared type for all files."""
    for kind in (pa.int32(), pa.uint64(), pa.string(), pa.decimal128(20, 0)):
        sixty.write_events(per_user(pa.array(range(60)).cast(kind)), "events/b.parquet")
        ended = sixty.run()
        assert (ended.status, ended.out) == (4, "")
        assert (
            f"events/b.parquet: column 'user' is {kind}, but int64 in events/a.parquet; write all files with" in ended.complaint
        )
    sixty.assert_nothing_published()
