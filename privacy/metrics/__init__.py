"""One file a metric, and this registry. A new metric is its file and its line here."""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from privacy.metrics.base import Metric
from privacy.metrics.count import CountMetric
from privacy.metrics.frequency import FrequencyMetric
from privacy.metrics.histogram import HistogramMetric
from privacy.metrics.mean import MeanMetric
from privacy.metrics.quantiles import QuantilesMetric
from privacy.metrics.sum import SumMetric
from privacy.metrics.variance import StddevMetric, VarianceMetric
from privacy.metrics.vector_sum import VectorSumMetric

METRICS: tuple[type[Metric], ...] = (
    CountMetric,
    SumMetric,
    MeanMetric,
    VarianceMetric,
    StddevMetric,
    QuantilesMetric,
    HistogramMetric,
    FrequencyMetric,
    VectorSumMetric,
)

KINDS = tuple(metric.kind for metric in METRICS)


def _kind(metric: Any) -> str | None:
    """The key that says which metric it is. None where there is none, or more than one."""
    if not isinstance(metric, Mapping):
        return getattr(metric, "kind", None)
    found = [kind for kind in KINDS if kind in metric]
    return found[0] if len(found) == 1 else None


if TYPE_CHECKING:
    AnyMetric = Metric
else:
    AnyMetric = Annotated[
        reduce(or_, (Annotated[metric, Tag(metric.kind)] for metric in METRICS)),
        Discriminator(
            _kind,
            custom_error_type="metric",
            custom_error_message=(
                f"needs exactly one of {', '.join(KINDS)}; write for example {{name: purchases, count: events}}"
            ),
        ),
    ]
