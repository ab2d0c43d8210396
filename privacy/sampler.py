"""Exact samplers of discrete Laplace and Gaussian noise, on whole arrays, from the operating system's entropy.

Proposals are integers. Each is accepted if a uniform number is below a probability, and that is decided from the number's first
64 bits and a float where these are clear, and from as many more bits and digits as it takes where they are not.
Source: docs/guarantee.md, "The samplers"; Canonne, Kamath and Steinke 2020, Algorithms 1 to 3.
"""

import decimal
import math
import os
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from privacy.grid import Floats, Ints

LEAST_SCALE, MOST_SCALE = 2.0**4, 2.0**44
"""Of the noise, in steps, for which the float arithmetic below has the errors that it says."""

_UNCLEAR = 2.0**-38
"""More than the relative error of a probability in floats."""

_BATCH = 1 << 15


def laplace(count: int, scale: float) -> Ints:
    """Independent draws of P(x) proportional to exp(-|x| / scale). int64 (count,).

    Args:
        scale: in LEAST_SCALE..MOST_SCALE. Exactly this float is meant.
    """
    top, bottom = Fraction(scale).as_integer_ratio()
    return _repeat(count, lambda tries: _laplace(tries, top, bottom))


def gaussian(count: int, scale: float) -> Ints:
    """Independent draws of P(x) proportional to exp(-x^2 / (2 scale^2)). int64 (count,).

    Args:
        scale: the standard deviation, in LEAST_SCALE..MOST_SCALE. Exactly this float is meant.
    """
    proposed = math.floor(scale) + 1
    square = Fraction(scale) ** 2
    offset = square / proposed

    def draw(tries: int) -> Ints:
        found = _laplace(tries, proposed, 1)
        distances = (np.abs(found) - float(offset)) / scale
        kept = _below(np.exp(-0.5 * distances * distances), lambda row: (abs(int(found[row])) - offset) ** 2 / (2 * square))
        return found[kept]

    return _repeat(count, draw)


def _repeat(count: int, draw: Callable[[int], Ints]) -> Ints:
    """Calls for tries until so many draws are there."""
    parts, missing = [np.zeros(0, np.int64)], count
    while missing > 0:
        parts.append(draw(min(_BATCH, 2 * missing + 64))[:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def _laplace(tries: int, top: int, bottom: int) -> Ints:
    """Draws of discrete Laplace noise of the scale top / bottom, from so many tries, of which some fail."""
    rest = _uniform(tries, top)
    kept = _below(np.exp(-rest / top), lambda row: Fraction(int(rest[row]), top))
    rest = rest[kept]
    sizes = (rest + top * _geometric(len(rest))) // bottom
    negative = np.unpackbits(np.frombuffer(os.urandom(-(-len(sizes) // 8)), np.uint8))[: len(sizes)].astype(np.bool_)
    left = ~(negative & (sizes == 0))
    found: Ints = np.where(negative, -sizes, sizes)[left]
    return found


def _words(count: int) -> NDArray[np.uint64]:
    """Uniform 64 bits each."""
    return np.frombuffer(os.urandom(8 * count), np.uint64)


def _uniform(count: int, below: int) -> Ints:
    """Uniform integers in 0..below - 1, which is at most 2^58; up to so many, since words that would favour some are dropped."""
    bits = (below - 1).bit_length()
    found: Ints = (_words(count) >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(count, np.int64)
    return found[found < below]


def _geometric(count: int) -> Ints:
    """Draws of P(v) proportional to exp(-v), v >= 0: how many of 1, 2, .. have a uniform number below exp(-v)."""
    words = _words(count)
    found = np.searchsorted(_POWERS, words, side="right")
    values = (len(_POWERS) - found).astype(np.int64)
    unclear = (found == 0) | (_POWERS[found - 1] == words)
    for row in np.flatnonzero(unclear).tolist():
        values[row] = _slow_geometric(int(words[row]))
    return values


def _slow_geometric(word: int) -> int:
    value = 0
    uniform = _Uniform(word)
    while uniform.below(Fraction(value + 1)):
        value += 1
    return value


def _below(probabilities: Floats, exponent: Callable[[int], Fraction]) -> NDArray[np.bool_]:
    """Whether a uniform number, a new one for each, is below exp(-exponent(row)).

    Args:
        probabilities: float64 (n,): these probabilities, each off by less than `_UNCLEAR` of itself, or than 2^-61.
    """
    words = _words(len(probabilities))
    numbers = words * 2.0**-64  # off by 2^-53 of itself at most, and by 2^-64
    below = numbers < probabilities
    unclear = np.abs(numbers - probabilities) <= 2 * _UNCLEAR * probabilities + 2.0**-60
    for row in np.flatnonzero(unclear).tolist():
        below[row] = _Uniform(int(words[row])).below(exponent(row))
    return below


class _Uniform:
    """A uniform number in [0, 1) of which as many bits are drawn as are looked at."""

    def __init__(self, word: int) -> None:
        self.bits, self.number = 64, word

    def below(self, exponent: Fraction) -> bool:
        """Whether it is below exp(-exponent), which is at least 0."""
        while True:
            low, high = _exp(exponent, self.bits + 64)
            if Fraction(self.number + 1, 1 << self.bits) <= low:
                return True
            if Fraction(self.number, 1 << self.bits) >= high:
                return False
            self.number = self.number << 64 | int.from_bytes(os.urandom(8), "big")
            self.bits += 64


def _exp(exponent: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Between which two numbers exp(-exponent) is; they are about 2^-bits apart, relative to it."""
    if exponent == 0:
        return Fraction(1), Fraction(1)
    # Each operation is rounded correctly to so many digits: dividing moves the exponent, and so the result's logarithm, by less
    # than a unit of the last of them, times the exponent.
    digits = bits * 302 // 1000 + 10 + len(str(math.ceil(exponent)))
    with decimal.localcontext(decimal.Context(prec=digits, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)):
        value = Fraction((-(decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator))).exp())
    if not value:  # too small for decimal, and so for all bits that are ever looked at
        return value, Fraction(1, 1 << bits)
    margin = value * (math.ceil(exponent) + 1) / Fraction(10) ** (digits - 2)
    return value - margin, value + margin


_POWERS = np.array([math.floor(_exp(Fraction(v), 128)[0] * 2**64) for v in range(44, 0, -1)], np.uint64)
"""The first 64 bits of exp(-44) to exp(-1), ascending. A word that is equal to one is not clear, nor one below the first."""
