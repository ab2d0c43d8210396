"""privacy/sampler.py: every decision is the exact one, also where floats and 64 bits do not say it."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, mp, mpf

from privacy import sampler
from tests.privacy.cases import CASES


def entropy(monkeypatch: pytest.MonkeyPatch, words: list[int], more: Iterator[int]) -> None:
    """What the operating system gives: these words at once, then 64 bits each time."""
    given_words = [np.array(words, np.uint64).tobytes()]

    def urandom(size: int) -> bytes:
        drawn = given_words.pop() if given_words else next(more).to_bytes(8, "big")
        assert len(drawn) == size
        return drawn

    monkeypatch.setattr(sampler.os, "urandom", urandom)


def exactly(exponent: Fraction, digits: int = 200) -> mpf:
    """exp(-exponent) in so many digits."""
    with mp.workdps(digits):
        return exp(-mpf(exponent.numerator) / mpf(exponent.denominator))


EXPONENTS = st.one_of(
    st.fractions(0, 50, max_denominator=10**6),
    st.sampled_from([Fraction(0), Fraction(1, 2**80), Fraction(1), Fraction(44), Fraction(700), Fraction(10**30)]),
)


@CASES
@given(EXPONENTS, st.integers(1, 400))
def test_the_ends_of_a_probability_are_on_both_sides_of_it(exponent: Fraction, bits: int) -> None:
    """And so near each other that bits decide."""
    low, high = sampler._exp(exponent, bits)
    truth = exactly(exponent)
    with mp.workdps(200):
        assert mpf(low.numerator) / low.denominator <= truth <= mpf(high.numerator) / high.denominator
    assert high - low <= Fraction(1, 2**bits)


@CASES
@given(EXPONENTS, st.integers(-2, 2), st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3))
def test_a_uniform_number_near_a_probability_is_compared_exactly(exponent: Fraction, off: int, more: list[int]) -> None:
    """Its first 64 bits are those of the probability, or next to them; further bits are drawn and decide."""
    with mp.workdps(200):
        word = min(max(int(mp.floor(exactly(exponent) * 2**64)) + off, 0), 2**64 - 1)
        number = word
        for drawn in [*more, 2**63]:
            number = number << 64 | drawn
        expected = mpf(number) / mpf(2) ** 320 < exactly(exponent)
    with pytest.MonkeyPatch.context() as patch:
        words = iter([*more, 2**63, 2**63])
        patch.setattr(sampler.os, "urandom", lambda size: next(words).to_bytes(size, "big"))
        assert sampler._Uniform(word).below(exponent) == expected


@CASES
@given(st.lists(st.tuples(st.fractions(0, 40, max_denominator=10**9), st.integers(-(2**30), 2**30)), min_size=1, max_size=20))
def test_arrays_are_compared_exactly_also_near_the_probability(rows: list[tuple[Fraction, int]]) -> None:
    """The fast way and the exact one agree: numbers within 2^-34 of a probability, floats that are off by 2^-39."""
    exponents = [exponent for exponent, _ in rows]
    with mp.workdps(60):
        exact = [exactly(exponent, 60) for exponent in exponents]
        words = [
            min(max(int(mp.floor(p * 2**64)) + off * (1 + abs(off)), 0), 2**64 - 1)
            for p, (_, off) in zip(exact, rows, strict=True)
        ]
        expected = [mpf(word) + mpf("0.5") < p * 2**64 for word, p in zip(words, exact, strict=True)]
    floats = np.array([float(p) * (1 + (-1) ** row * 2.0**-39) for row, p in enumerate(exact)])
    with pytest.MonkeyPatch.context() as patch:
        entropy(patch, words, iter([2**63] * 200))
        assert sampler._below(floats, lambda row: exponents[row]).tolist() == expected


def test_how_often_in_a_row_is_exact_at_every_edge() -> None:
    """Words at, next to and between the powers of 1/e, and the smallest ones, which go beyond the table."""
    edges = [int(power) for power in sampler._POWERS]
    words = sorted({0, 1, 2, 3, 2**64 - 1, *(edge + off for edge in edges for off in (-1, 0, 1) if edge + off >= 0)})
    with mp.workdps(60):
        exact = [mpf(word) / mpf(2) ** 64 + mpf(2) ** -65 for word in words]
        expected = [int(mp.floor(-mp.log(number))) for number in exact]
        assert edges == [int(mp.floor(exp(-v) * 2**64)) for v in range(44, 0, -1)]
    with pytest.MonkeyPatch.context() as patch:
        entropy(patch, words, iter([2**63] * 1000))
        assert sampler._geometric(len(words)).tolist() == expected


@pytest.mark.parametrize("below", [1, 2, 3, 17, 2**40, 2**40 + 1, 2**53 - 1])
def test_uniform_integers_are_uniform(below: int) -> None:
    """Each word is cut to the fewest bits and kept where it is below: all integers have as many words."""
    bits = (below - 1).bit_length()
    words = [number << 64 - bits for number in {0, 1, below - 1, below, 2**bits - 1} if number < 2**bits]
    with pytest.MonkeyPatch.context() as patch:
        entropy(patch, words, iter([]))
        found = sampler._uniform(len(words), below).tolist()
    assert sorted(found) == sorted({0, min(1, below - 1), below - 1} if bits else [0] * len(words))


@pytest.mark.parametrize(("draw", "power"), [(sampler.gaussian, 2), (sampler.laplace, 1)])
@pytest.mark.parametrize("scale", [16.0, 17.3, 2.0**44])
@pytest.mark.parametrize("count", [0, 1, 2, 100_001])
def test_so_many_draws(draw, power: int, scale: float, count: int) -> None:
    """Of int64, whatever the number of tries; their mean size is that of the noise."""
    drawn = draw(count, scale)
    assert (drawn.dtype, drawn.shape) == (np.int64, (count,))
    if count > 2:
        size = {2: math.sqrt(2 / math.pi), 1: 1.0}[power] * scale
        assert abs(np.abs(drawn).mean() / size - 1) < 0.03
        assert abs((drawn < 0).mean() - 0.5) < 0.03
