"""The manifest and the files' metadata: what they say, and what they must not (S6, design.md section 7)."""

import hashlib
import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FIELDS = {
    *("manifest_version", "dataset", "run", "guarantee", "protected", "epsilon", "delta", "neighbours", "nulls", "intervals"),
    *("plan", "config", "config_digest", "charge", "versions", "files"),
}
STAGE_FIELDS = {
    *("stage", "mechanism", "share", "bound", "grid", "standard_deviation", "interval_95"),
    *("threshold", "delta", "keys_looked_at_per_unit", "units_to_appear_50", "units_to_appear_95"),
}


@pytest.fixture
def published(project) -> Any:
    """A project with one run: two releases, 719 events of 61 units."""
    table = project.base.slice(1)
    extra = pa.table({name: [value] for name, value in zip(table.schema.names, [977, "ash", 1.0, 1, None], strict=True)})
    project.write_events(pa.concat_tables([table.slice(1), extra.cast(table.schema)]))
    public = {"name": "listed", "keys": {"columns": ["shop"], "values": {"shop": ["ash", "none"]}}}
    project.config["releases"].append(project.release | public)
    ended = project.run()
    assert ended.status == 0, ended.complaint
    return project


def test_manifest_has_what_the_issue_lists(published):
    """Guarantee, who is protected, epsilon, delta, neighbours, plan, config, digest, versions, files."""
    manifest = published.manifest()
    assert set(manifest) == FIELDS
    assert (manifest["run"], manifest["dataset"], manifest["epsilon"], manifest["delta"]) == ("one", "shops", 50, 1e-4)
    assert "(50, 0.0001)" in manifest["guarantee"]
    assert manifest["guarantee"].count(".") - manifest["guarantee"].count("0.") == 1
    assert "user" in manifest["protected"]
    assert "user" in manifest["guarantee"]
    assert manifest["neighbours"].startswith("add or remove")
    assert "null" in manifest["nulls"]
    assert {"discreet", "python", "apache-beam", "numpy", "opendp", "pyarrow"} <= set(manifest["versions"])


def test_manifests_plan_is_that_of_discreet_plan(published):
    """The reader of a manifest sees what the one who planned saw."""
    plan = published.main("plan", "--json", "config.yaml").json
    manifest = published.manifest()
    assert manifest["plan"] == plan["plan"]
    assert manifest["guarantee"] == plan["guarantee"]
    assert manifest["protected"] == plan["protected"]


def test_manifests_config_is_resolved_and_has_its_digest(published):
    """Defaults are written out, and the config can be run again."""
    manifest = published.manifest()
    text = json.dumps(manifest["config"], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == manifest["config_digest"]
    assert manifest["config"]["releases"][0]["select"] == {"share": 1.0, "cap": 1024}
    published.write_config(json.dumps(manifest["config"]))
    again = published.main("run", "config.yaml", "--run-id", "one", "--json")
    assert again.status == 0, again.complaint
    assert again.json["drawn"] is False


def test_manifest_names_each_file_with_its_sha256(published):
    """All files of all releases, no others, relative to the output."""
    listed = {file["path"]: file["sha256"] for file in published.manifest()["files"]}
    found = {name: data for name, data in published.visible().items() if name.endswith(".parquet")}
    assert set(listed) == set(found)
    assert len(listed) == 4
    for name, digest in listed.items():
        assert digest == hashlib.sha256(found[name]).hexdigest()


def test_s6_manifest_holds_nothing_else(published):
    """Exact counts, sizes, times, digests of data, names of the machine: not there."""
    manifest = published.manifest()
    for stages in manifest["plan"]["releases"].values():
        assert all(set(stage) <= STAGE_FIELDS for stage in stages)
    assert set(manifest["plan"]) == {"epsilon", "delta", "mu", "delta_selection", "releases"}
    assert all(set(file) == {"path", "sha256"} for file in manifest["files"])
    text = json.dumps(manifest)
    for forbidden in ("719", "977", "rows", "size", "seconds", "time", "secret", str(published.root), "hostname", "user_id"):
        assert forbidden not in re.sub(r"[0-9a-f]{64}|\"rows_per_key\"|\"bad_rows\"|\d\.\d+", "", text), forbidden


def test_s6_manifest_does_not_depend_on_the_events(published):
    """The manifest of other events differs in the run's id, the digest of its charge, and the files' digests only."""
    first = published.manifest()
    published.write_events(published.base.slice(0, 100))
    assert published.run(run_id="two").status == 0
    second = published.manifest(run_id="two")
    for manifest in (first, second):
        run = manifest.pop("run")
        assert re.fullmatch("[0-9a-f]{64}", manifest.pop("charge"))
        for file in manifest["files"]:
            del file["sha256"]
            file["path"] = file["path"].replace(f"run={run}", "run=")
    assert first == second


def test_metadata_of_the_files(published):
    """Guarantee, protected and plan, in every file; nothing more, so none of the events' own metadata."""
    manifest = published.manifest()
    for release in ("by_shop", "listed"):
        for path in published.parts(release):
            metadata = pq.ParquetFile(path).schema_arrow.metadata
            assert set(metadata) == {b"discreet"}
            told = json.loads(metadata[b"discreet"])
            assert told == {key: manifest[key] for key in ("guarantee", "protected", "plan")}
            assert set(pq.read_metadata(path).metadata) <= {b"discreet", b"ARROW:schema"}


def test_s6_metadata_of_the_events_is_not_passed_on(project):
    """pandas writes the index, with its exact number of rows, into the metadata of what it writes."""
    project.base.to_pandas().to_parquet("events/a.parquet")
    assert b"pandas" in pq.ParquetFile("events/a.parquet").schema_arrow.metadata
    assert project.run().status == 0
    for data in project.visible().values():
        assert b"pandas" not in data
        assert b"RangeIndex" not in data


def test_field_metadata_of_the_events_is_not_passed_on(project):
    """Nor that of a column."""
    table = project.base
    fields = [field.with_metadata({"PARQUET:field_id": "7", "secret": "CANARY"}) for field in table.schema]
    project.write_events(table.cast(pa.schema(fields)))
    assert project.run().status == 0
    for data in project.visible().values():
        assert b"CANARY" not in data
    assert all(not field.metadata or set(field.metadata) == {b"PARQUET:field_id"} for field in project.table().schema)


def test_a_composite_unit_is_told_as_such(project):
    """(user, quantity) is protected, not the user."""
    project.config["events"]["privacy_unit"] = ["user", "quantity"]
    assert project.run().status == 0
    manifest = project.manifest()
    assert "each combination of user and quantity" in manifest["protected"]
    assert "user and quantity" in manifest["guarantee"]
