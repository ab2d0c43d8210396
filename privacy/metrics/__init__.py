"""One file a metric, and this registry. A new metric is its file and its line here."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from privacy.metrics.count import CountMetric
from privacy.metrics.mean import MeanMetric
from privacy.metrics.sum import SumMetric


def _kind(metric: Any) -> str | None:
    """The key that says which metric it is. None where there is none, or more than one."""
    if not isinstance(metric, Mapping):
        return getattr(metric, "kind", None)
    found = [kind for kind in KINDS if kind in metric]
    return found[0] if len(found) == 1 else None


AnyMetric = Annotated[
    Annotated[CountMetric, Tag("count")] | Annotated[SumMetric, Tag("sum")] | Annotated[MeanMetric, Tag("mean")],
    Discriminator(
        _kind,
        custom_error_type="metric",
        custom_error_message="needs exactly one of count, sum, mean; write for example {name: purchases, count: events}",
    ),
]

KINDS = ("count", "sum", "mean")
