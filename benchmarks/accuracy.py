"""What bounds and noise cost on data that may be looked at, such as the public sample data.

usage: python -m benchmarks.accuracy CONFIG

Per metric, over the keys whose exact weight reaches the selection's threshold: how far the bounded values are from the
true ones, and how far the noise moves them, each as the sum of absolute differences over the sum of true values. Looks
at the exact data, so its output is not private.
"""

import sys
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.config import load_config
from pipelines.inputs import Inputs, resolve_inputs
from privacy.grid import Floats
from privacy.ids import new_secret
from privacy.metrics.base import Metric
from privacy.metrics.mean import MeanMetric
from privacy.plan import MetricPlan, VectorStage, make_plan
from privacy.vectors import BinVector
from transforms.bound_contributions import bound_contributions, merge_names
from transforms.exchange import ids_of
from transforms.grouping import locate
from transforms.read_events import prepare_events, read_lookups, read_part
from transforms.sum_by_unit import ReleaseInput, sum_by_unit

_MEAN_ABSOLUTE = (2 / np.pi) ** 0.5
"""Of standard normal noise."""

_SECRET = new_secret()


def main(path: str) -> None:
    config = load_config(path, {})
    inputs = resolve_inputs(config, make_plan(config.budget, config.releases, config.events.privacy_unit.rows))
    tables = read_lookups(inputs.events)
    batches = [
        prepare_events(batch, inputs.events, tables) for part in inputs.parts for batch in read_part(part, inputs.events.schema)
    ]
    events = pa.Table.from_batches(batches).to_pandas()
    console = Console(highlight=False, soft_wrap=True)
    for release in inputs.releases:
        table = Table(box=box.MARKDOWN, title=f"release {release.plan.name}", title_justify="left")
        for heading in ("metric", "keys", "bounded over true", "noise over true"):
            table.add_column(heading, justify="left" if heading == "metric" else "right")
        for row in measure(events, batches, inputs, release):
            table.add_row(*row)
        console.print(table)


def measure(
    events: pd.DataFrame, batches: list[pa.RecordBatch], inputs: Inputs, release: ReleaseInput
) -> list[tuple[str, str, str, str]]:
    """The rows of a release: metric, keys, relative difference by the bounds, by the noise. Of counts, sums and means."""
    plan = release.plan
    totals = [stage for stage in plan.stages if not (isinstance(stage, VectorStage) and isinstance(stage.vector, BinVector))]
    partial = [table for batch in batches for table in sum_by_unit(batch, inputs.unit, [release], _SECRET, {})]
    sums = [table for table in partial if table.schema.metadata[b"table"].startswith(b"sums")]
    bounded = bound_contributions(sums, plan)
    names = merge_names([table for table in partial if table.schema.metadata[b"table"].startswith(b"names")])
    exact = pd.DataFrame({f"stage_{n}": bounded[f"stage_{n}"].to_numpy() for n in range(len(totals))})
    places = locate(ids_of(bounded, "key"), ids_of(names, "key"))
    keys = [names[f"column_{n}"].take(pa.array(places)).to_pandas() for n in range(len(release.key_columns))]
    exact.index = pd.MultiIndex.from_arrays(keys, names=release.key_columns)
    if plan.selection is not None:
        exact = exact[exact["stage_0"] >= plan.selection.threshold]
    stages = {stage.name: exact[f"stage_{n}"].to_numpy() * stage.grid.step for n, stage in enumerate(totals)}
    rows = []
    for part in plan.metrics:
        if part.metric.kind not in ("count", "sum", "mean"):
            continue
        truth = true_values(events, part.metric, release, inputs.unit.columns).reindex(exact.index).to_numpy()
        value, noise = bounded_values(part, stages)
        share = np.abs(value - truth).sum() / np.abs(truth).sum(), noise.sum() / np.abs(truth).sum()
        rows.append((part.metric.name, f"{len(exact):,}", f"{share[0]:.3f}", f"{share[1]:.3f}"))
    return rows


def true_values(events: pd.DataFrame, metric: Metric, release: ReleaseInput, unit: tuple[str, ...]) -> pd.Series:
    """The metric without bounds, clips and noise, by key."""
    groups = events.groupby(list(release.key_columns))
    if metric.column is not None:
        values = groups[metric.column]
        return values.sum() if metric.kind == "sum" else values.mean()
    if getattr(metric, "count", None) == "units":
        return events.drop_duplicates([*unit, *release.key_columns]).groupby(list(release.key_columns)).size()
    return groups.size()


def bounded_values(part: MetricPlan, stages: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """The metric from the exact bounded sums, and the mean absolute size of its noise."""
    if not isinstance(part.metric, MeanMetric):
        (stage,) = part.stages
        return stages[stage.name], np.full(len(stages[stage.name]), stage.deviation * _MEAN_ABSOLUTE)
    amount, count = part.stages
    ratio = stages[amount.name] / stages[count.name]
    deviation = np.hypot(amount.deviation, ratio * count.deviation) / stages[count.name]
    return part.metric.middle + ratio, deviation * _MEAN_ABSOLUTE


if __name__ == "__main__":
    main(sys.argv[1])
