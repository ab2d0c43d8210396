"""What a run publishes when its budget is beyond any use: counts and sums of integers are exact, since noise is rounded away."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

HUGE = 1e9
LEAST = 0.05
"""Standard deviations are below it, so noise of 0.5 is beyond 10 of them: less often than once in 1e23."""

COUNTS = [{"name": "events", "count": "events"}, {"name": "units", "count": "units"}]


def ask(project: Any, keys: str | list[str], public: Any = None, metrics: Any = None, **options: Any) -> None:
    """Sets the project's only release: public keys of these values, or of this file; bounds of 20 keys and 5 rows."""
    listed = {"from": public} if isinstance(public, str) else {"values": public} if public else {}
    release = {
        "name": "asked",
        "keys": {"columns": [keys] if isinstance(keys, str) else keys} | listed,
        "bounds": {"keys_per_unit": 20, "rows_per_key": 5},
        "metrics": metrics or COUNTS,
    }
    project.config["releases"] = [release | options]


def published(project: Any, run_id: str = "one", options: Sequence[str] = ()) -> dict[Any, Any]:
    """Runs the project, as a dataset of its own. Each published key's metrics, without intervals; a single one by itself."""
    project.config["budget"]["epsilon"] = HUGE
    project.config["dataset"] = f"dataset_{run_id.replace('-', '_')}"
    ended = project.run(*options, run_id=run_id)
    assert ended.status == 0, ended.err
    release = project.config["releases"][0]
    rows = project.table(release["name"], run_id).to_pylist()
    names = [metric["name"] for metric in release["metrics"]]
    found = {_single([row[key] for key in release["keys"]["columns"]]): _single([row[name] for name in names]) for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    stages = project.manifest(run_id)["plan"]["releases"][release["name"]]
    assert max(stage["standard_deviation"] for stage in stages) < LEAST
    return found


def _single(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def write_csv(project: Any, header: str, *lines: str, name: str = "events/a.csv") -> None:
    """Writes events as text, and lets the config read them."""
    path = project.root / name
    path.write_text("".join(line + "\n" for line in (header, *lines)))
    project.config["events"]["files"] = name


def refused(project: Any, status: int = 4) -> str:
    """Runs the project. The one sentence with which it is refused, which has a cure."""
    ended = project.run()
    assert (ended.status, ended.out) == (status, ""), ended.err
    assert len(ended.complaint.splitlines()) == 1, ended.complaint
    assert ";" in ended.complaint
    assert "fault of Discreet" not in ended.complaint
    project.assert_nothing_published()
    return ended.complaint


def per_user(users: Any, **columns: Any) -> pa.Table:
    """An event of each of these users, all with x in column `all`, and with further columns."""
    return pa.table({"user": users, "all": ["x"] * len(users)} | columns)
