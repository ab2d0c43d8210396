"""The only door to randomness that matters for privacy, and what the two kinds of noise look like."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np

from privacy import sampler
from privacy.grid import Ints
from privacy.sampler import LEAST_SCALE, MOST_SCALE

_ENDS = np.iinfo(np.int64)
_BATCH = 1 << 14


@dataclass(frozen=True)
class Noise:
    """Noise of a stage.

    Attributes:
        scale: in steps, above 0.
        order: of the norm that it goes with.
    """

    scale: float
    mechanism: ClassVar[str]
    order: ClassVar[int]

    @property
    def deviation(self) -> float:
        """Standard deviation, in steps."""
        raise NotImplementedError

    def reach(self, coverage: float) -> float:
        """The noise is within this, in steps, with this probability."""
        raise NotImplementedError

    def combined_reach(self, coverage: float) -> float:
        """A fixed linear combination of independent draws is within so many of its standard deviations with this probability."""
        raise NotImplementedError

    def add(self, values: Ints) -> Ints:
        """Adds independent noise to each value, exactly.

        Args:
            values: int64, any shape, steps.

        Returns:
            int64, the same shape, a new array; saturates at the ends of int64.

        Guarantee: the noise is drawn from the operating system's entropy, and cannot be seeded.
        Source: docs/guarantee.md, "The samplers".
        """
        if not LEAST_SCALE <= self.scale <= MOST_SCALE:
            return self.add_by_opendp(values)
        noise = self._draw(values.size).reshape(values.shape)
        sums = values + noise
        wrapped = (values ^ sums) & (noise ^ sums) < 0
        return np.where(wrapped, np.where(noise < 0, _ENDS.min, _ENDS.max), sums)

    def add_by_opendp(self, values: Ints) -> Ints:
        """Like `add`, by OpenDP's samplers: slower, and for every scale."""
        import opendp.prelude as dp  # 0.2 s that planning does not need

        dp.enable_features("contrib")
        draw = self._mechanism(dp)
        flat = values.ravel()
        # OpenDP refuses read-only arrays, hence the copies.
        parts = [draw(np.array(flat[at : at + _BATCH])) for at in range(0, len(flat), _BATCH)]
        return np.concatenate([np.asarray(part, np.int64) for part in parts] or [flat]).reshape(values.shape)

    def _draw(self, count: int) -> Ints:
        raise NotImplementedError

    def _mechanism(self, dp: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """Discrete Gaussian noise; `scale` is its standard deviation.

    Source: Canonne, Kamath and Steinke 2020, Algorithm 3; docs/guarantee.md, "Discrete noise".
    """

    mechanism: ClassVar[str] = "discrete Gaussian"
    order: ClassVar[int] = 2

    @property
    def deviation(self) -> float:
        return self.scale

    def reach(self, coverage: float) -> float:
        return self.scale * self.combined_reach(coverage)

    def combined_reach(self, coverage: float) -> float:
        return NormalDist().inv_cdf((1 + coverage) / 2)

    def _draw(self, count: int) -> Ints:
        return sampler.gaussian(count, self.scale)

    def _mechanism(self, dp: Any) -> Any:
        return dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64"), scale=self.scale)


@dataclass(frozen=True)
class LaplaceNoise(Noise):
    """Discrete Laplace noise: a value of x steps has a probability proportional to exp(-|x| / scale).

    Source: Canonne, Kamath and Steinke 2020, Algorithm 2; docs/guarantee.md, "Laplace noise".
    """

    mechanism: ClassVar[str] = "discrete Laplace"
    order: ClassVar[int] = 1

    @property
    def deviation(self) -> float:
        return self.scale * math.sqrt(2)

    def reach(self, coverage: float) -> float:
        return -self.scale * math.log1p(-coverage)

    def combined_reach(self, coverage: float) -> float:
        # Vysochanskij and Petunin 1980: for whatever has one mode; sums of symmetric log-concave values do.
        return math.sqrt(4 / (9 * (1 - coverage)))

    def _draw(self, count: int) -> Ints:
        return sampler.laplace(count, self.scale)

    def _mechanism(self, dp: Any) -> Any:
        return dp.m.make_laplace(dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64"), scale=self.scale)
