"""The only door to randomness that matters for privacy."""

import numpy as np

from privacy.grid import Ints

_BATCH = 1 << 14


def add_gaussian(values: Ints, scale: float) -> Ints:
    """Adds independent discrete Gaussian noise to each value.

    Args:
        values: int64, shape (n,), steps.
        scale: standard deviation in steps, above 0.

    Returns:
        int64, shape (n,), a new array; saturates at the ends of int64.

    Guarantee: the noise is exact, drawn from the operating system's entropy, and cannot be seeded.
    Source: Canonne, Kamath and Steinke 2020, Algorithm 3, as implemented by OpenDP; docs/guarantee.md, "Discrete noise".
    """
    import opendp.prelude as dp  # 0.2 s that planning does not need

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    draw = dp.m.make_gaussian(*space, scale=scale)
    # OpenDP refuses read-only arrays, hence the copies.
    parts = [draw(np.array(values[at : at + _BATCH])) for at in range(0, len(values), _BATCH)]
    return np.concatenate([np.asarray(part, np.int64) for part in parts]) if parts else values.copy()
