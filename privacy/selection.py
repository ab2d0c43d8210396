"""Which private keys may be shown: the weight of a unit in each of its keys, and the threshold."""

import math

import numpy as np

from privacy.gaussian import tail_quantile
from privacy.grid import Grid, Ints
from privacy.noise import GaussianNoise
from privacy.norms import weights_by_keys

GRID = Grid(-29)
NORM = 2**29
"""A unit's weights have an L2 norm of at most 1, which is 2^29 steps."""

MOST_KEYS = 2**16
"""The largest cap on the keys of one unit."""


def selection_weights(cap: int) -> Ints:
    """The weight of a unit in each of its d keys, 1/sqrt(d) cut to the grid, for d in 0..cap. int64, (cap + 1,), steps.

    Source: docs/guarantee.md, "Selection".
    """
    return weights_by_keys(NORM, NORM, cap)


def row_weights(rows: int) -> tuple[Ints, Ints]:
    """Where any `rows` rows are protected: the weight of a row in its key, and what that comes to.

    Returns:
        [0, the weight of one row]; and the largest weight in each of d keys that `rows` rows alone have, for d in 0..rows:
        each of the other keys takes one row at least. int64, (2,) and (rows + 1,), steps.

    Source: docs/guarantee.md, "Rows".
    """
    weight = NORM // rows
    most = weight * np.arange(rows + 1, 0, -1, dtype=np.int64)
    most[0] = 0
    return np.array([0, weight]), most


def threshold(weights: Ints, scale: float, delta: float) -> int:
    """The noisy weight, in steps, that a key must reach.

    Args:
        weights: the largest weight in each of d keys that one unit alone has, from d = 0.
        scale: standard deviation of the noise, in steps.
        delta: of this selection, in (0, 1).

    Guarantee: with probability at least 1 - delta, no key is shown that only one unit has.
    Source: Gopi, Gulhane, Kulkarni, Shen, Shokouhi and Yekhanin 2020, Differentially Private Set Union, Theorem 5.1;
        docs/guarantee.md, "Selection".
    """
    reach = max(
        int(weight) + scale * tail_quantile(-math.expm1(math.log1p(-delta) / keys))
        for keys, weight in enumerate(weights[1:], start=1)
    )
    # Discrete noise reaches m at most as often as continuous noise reaches m - 1, hence the last step.
    return math.ceil(reach * (1 + 1e-12)) + 1


def select_keys(weights: Ints, noise: GaussianNoise, threshold: int) -> tuple[Ints, Ints]:
    """Which keys are shown, and their noisy weights. Draws the noise of the selection.

    Args:
        weights: int64, shape (n,), exact weights of the candidates, in steps. A key without weight is no candidate.
        threshold: of `threshold`.

    Returns:
        Ascending row numbers, and the noisy weights of these rows. int64, (kept,), twice.

    Source: docs/guarantee.md, "Selection".
    """
    noisy = noise.add(weights)
    kept = np.flatnonzero((noisy >= threshold) & (weights > 0))
    return kept, noisy[kept]
