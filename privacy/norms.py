"""Limiting what one unit adds to a stage: scaling, in integers, so that the norm holds exactly."""

import numpy as np
from numpy.typing import NDArray

from privacy.grid import Ints

_LIMB = 30
_LIMB_MASK = (1 << _LIMB) - 1


def limit_norms(values: Ints, units: Ints, norm: int) -> Ints:
    """Scales each unit's vector down to an L2 norm of at most `norm`, toward zero; shorter vectors stay as they are.

    Args:
        values: int64, shape (n,), the units' vectors one after the other; above -2^63.
        units: int64, shape (u,), ascending, where each unit's vector starts; the first is 0, none is empty.
        norm: in steps, in 1..2^30.

    Returns:
        int64, shape (n,). Each unit's part is a function of that unit's own integers alone.

    Guarantee: the sum of squares of each unit's result is at most norm^2.
    Source: docs/guarantee.md, "The norm holds exactly".

    >>> limit_norms(np.array([3, -4, 1]), np.array([0, 2]), 2)
    array([ 1, -1,  1])
    """
    if len(values) == 0:
        return values
    sizes = np.diff(units, append=len(values))
    # A vector whose sizes add up to at most the norm is no longer than it: most are told by that. No sum leaves 64 bits.
    totals = np.add.reduceat(np.minimum(np.abs(values), norm + 1).view(np.uint64), units)
    candidates = totals > norm
    if not candidates.all():
        rows = np.repeat(candidates, sizes)
        limited = values.copy()
        kept = sizes[candidates]
        limited[rows] = limit_norms(values[rows], np.cumsum(kept) - kept, norm)
        return limited
    sizes_abs = np.abs(values)
    largest = np.maximum.reduceat(sizes_abs, units)
    over = _longer(sizes_abs, largest, units, norm)
    if not over.any():
        return values
    # Low bits are dropped until the sum of squares fits int64; then one square root a unit, and one division a value.
    room = (62 - _bit_length(sizes)) // 2
    shift = np.where(over, np.maximum(_bit_length(largest) - room, 0), 0)
    kept = sizes_abs >> np.repeat(shift, sizes)
    rows_over = np.repeat(over, sizes)
    kept[~rows_over] = 0
    roots = np.where(over, _root_up(np.add.reduceat(kept * kept, units)), 1)
    scaled = kept * norm // np.repeat(roots, sizes)
    return np.where(rows_over, np.sign(values) * scaled, values)


def limit_totals(values: Ints, units: Ints, norm: int) -> Ints:
    """Like `limit_norms`, for the L1 norm.

    Args:
        values: int64, shape (n,), at most 2^62 in size; a unit has at most 2^33, and their sizes add up to less than 2^70.

    Guarantee: the sizes of each unit's result add up to at most norm.
    Source: docs/guarantee.md, "The norm holds exactly".

    >>> limit_totals(np.array([3, -4, 1]), np.array([0, 2]), 4)
    array([ 1, -2,  1])
    """
    if len(values) == 0:
        return values
    sizes = np.diff(units, append=len(values))
    sizes_abs = np.abs(values)
    low = np.add.reduceat(sizes_abs & 255, units)
    high = np.add.reduceat(sizes_abs >> 8, units) + (low >> 8)
    over = (high > norm >> 8) | ((high == norm >> 8) & ((low & 255) > (norm & 255)))
    if not over.any():
        return values
    # Low bits are dropped until the sum of sizes, and a value times the norm, fit int64.
    bits = np.maximum(_bit_length(np.maximum.reduceat(sizes_abs, units)) - 32, _bit_length(high) + 8 - 62)
    shift = np.where(over, np.maximum(bits, 0), 0)
    kept = sizes_abs >> np.repeat(shift, sizes)
    divisors = np.where(over, np.add.reduceat(kept, units), 1)
    rows_over = np.repeat(over, sizes)
    kept[~rows_over] = 0
    scaled = kept * norm // np.repeat(divisors, sizes)
    return np.where(rows_over, np.sign(values) * scaled, values)


def _longer(sizes_abs: Ints, largest: Ints, units: Ints, norm: int) -> NDArray[np.bool_]:
    """Whether each unit's vector is longer than norm, exactly: squares are added in two limbs of 30 bits."""
    capped = np.minimum(sizes_abs, 1 << _LIMB)
    squares = capped * capped
    low = np.add.reduceat(squares & _LIMB_MASK, units)
    high = np.add.reduceat(squares >> _LIMB, units) + (low >> _LIMB)
    limit_high, limit_low = divmod(norm * norm, 1 << _LIMB)
    longer: NDArray[np.bool_] = high > limit_high
    longer |= (high == limit_high) & ((low & _LIMB_MASK) > limit_low)
    return longer | (largest > norm)


def _bit_length(values: Ints) -> Ints:
    """Bits of non-negative integers, in two halves, since a float64 does not hold 63 bits."""
    high = values >> 31
    return np.where(high > 0, 31 + _exponent(high), _exponent(values & (1 << 31) - 1))


def _exponent(values: Ints) -> Ints:
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _root_down(squares: Ints) -> Ints:
    """The largest r with r * r at most each of `squares`, which are in 0..2^62."""
    roots = np.sqrt(squares.astype(np.float64)).astype(np.int64)
    roots -= roots * roots > squares
    roots += (roots + 1) * (roots + 1) <= squares
    return roots


def _root_up(squares: Ints) -> Ints:
    """The smallest r with r * r at least each of `squares`, which are in 0..2^62."""
    roots = _root_down(squares)
    return roots + (roots * roots < squares)


def limit_amounts(amounts: Ints, events: Ints, counted: Ints, events_exponent: int) -> Ints:
    """Scales the sums of a unit's events to the share of them that its limited counts let in.

    A row that is counted in full keeps its amount; otherwise it adds its events' mean, cut to whole steps, times the
    events that are counted.

    Args:
        amounts: int64, shape (n,), sums over events of values of at most H steps each, H below 2^30.
        events: int64, shape (n,), how many events; at most 2^32.
        counted: int64, shape (n,), what `limit_norms` left of events * 2^-events_exponent, in steps; at most 2^30.
        events_exponent: of the counts' grid, in -30..0.

    Returns:
        int64, shape (n,).

    Guarantee: where each unit's `counted` has a norm of at most c, its result has one of at most H c 2^events_exponent.
    Source: docs/guarantee.md, "Means".
    """
    whole = counted == events << -events_exponent
    divisor = np.maximum(events, 1)
    means = np.sign(amounts) * (np.abs(amounts) // divisor)
    scaled = np.sign(means) * ((np.abs(means) * counted) >> -events_exponent)
    return np.where(whole, amounts, scaled)


def weights_by_keys(each: int, norm: int, most: int, order: int = 2) -> Ints:
    """What a unit adds to each of its keys when it has d of them, for d in 0..most: min(each, norm / sqrt(d)).

    Args:
        each: steps, at most 2^30, what a key gets while the norm allows it.
        norm: steps, at most 2^30.
        order: of the norm: 2, or 1, where it is norm / d instead.

    Returns:
        int64, shape (most + 1,); the entry for 0 keys is 0.

    Guarantee: d times the square of entry d is at most norm^2; where the order is 1, d times entry d is at most norm.
    Source: docs/guarantee.md, "The norm holds exactly".
    """
    keys = np.arange(1, most + 1)
    largest = norm // keys if order == 1 else _root_down(norm * norm // keys)
    return np.concatenate([[0], np.minimum(each, largest)])
