"""The mean of a column."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from privacy.bounds import UnitBounds
from privacy.fields import Clip, Column
from privacy.metrics.base import Columns, Metric, NoisySums, Part, mean_interval
from privacy.tallies import Values
from privacy.vectors import CentredVector, CountVector


class MeanMetric(Metric):
    """The mean of a column's clipped values: the middle of the clip, plus a noisy centred sum over a noisy count."""

    kind: ClassVar[str] = "mean"

    mean: Column
    clip: Clip

    @property
    def column(self) -> str:
        return self.mean

    @property
    def middle(self) -> float:
        return self.clip[0] / 2 + self.clip[1] / 2

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        counts = CountVector(Values(self.mean), bounds)
        # The count's noise matters only as far as a mean is away from the middle, so the sum gets more of the share.
        return (
            Part("sum", 2 / 3, CentredVector(self.mean, *self.clip, counts)),
            Part("count", 1 / 3, counts),
        )

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        amounts, counts = sums
        low, high = self.clip
        reach = high / 2 - low / 2
        ends = mean_interval(amounts, counts, reach)
        positive = counts.values > 0
        ratio = np.where(positive, amounts.values / np.where(positive, counts.values, 1.0), 0.0)
        value = np.clip(self.middle + ratio, low, high)
        return {
            self.name: value,
            f"{self.name}_low": np.minimum(np.clip(self.middle + ends[0], low, high), value),
            f"{self.name}_high": np.maximum(np.clip(self.middle + ends[1], low, high), value),
        }
