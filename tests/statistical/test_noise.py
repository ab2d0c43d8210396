"""privacy/noise.py: the noise is on the grid, of the planned scale, and new in every process."""

import multiprocessing
import os
from multiprocessing.connection import Connection

import numpy as np
import pyarrow as pa
import pytest

from privacy.metrics.base import NoisySums
from privacy.metrics.sum import SumMetric
from privacy.noise import GaussianNoise
from privacy.plan import make_plan
from tests.privacy.plans import budget, release
from tests.statistical.checks import gaussian_fits, hardly_repeats, low_bits_fit, small_gaussian_fits

MILLION = 1_000_000
SMALL = 2.5
# The sum of an ordinary plan: a grid of its own, and noise of some 2^33 steps.
STAGE = make_plan(budget(), [release(public=True, metrics=[{"name": "s", "sum": "v", "clip": [0, 10]}])]).stages[0]


@pytest.mark.parametrize("exact", [0, 1])
def test_n1_float_noise_leaves_no_holes(exact: int) -> None:
    """1e6 outputs from inputs 0 and 1: published sums are whole steps of the grid, and no step is left out.

    False failure: 1e-9. Power: single precision has 24 bits of 33, so its lowest bits are 0; caught in `test_checks`.
    """
    noisy = GaussianNoise(STAGE.scale).add(np.full(MILLION, exact))
    assert noisy.dtype == np.int64
    assert len(np.unique(noisy)) > MILLION * 0.99
    assert low_bits_fit(noisy)
    metric = SumMetric(name="s", sum="v", clip=(0.0, 10.0))
    published = metric.columns([NoisySums(noisy, STAGE.grid, STAGE.noise)], integers=False)["s"]
    steps = np.ldexp(published, -STAGE.grid.exponent)
    assert STAGE.grid.exponent < 0
    assert (steps == np.rint(steps)).all()
    assert (steps.astype(np.int64) == noisy).all()


@pytest.mark.parametrize("exact", [0, 1])
def test_n1_small_noise_reaches_every_step_from_each_input(exact: int) -> None:
    """3e5 outputs of small noise: every step within 3.6 deviations is met, each as often as the exact probability says.

    False failure: 1e-9, and e^-73 that a step 9 away is not met. Must be rejected at 5% more and less, and for the other input.
    """
    noisy = GaussianNoise(SMALL).add(np.full(300_000, exact))
    assert set(range(-9, 10)) <= set((noisy - exact).tolist())
    assert small_gaussian_fits(noisy - exact, SMALL, 6)
    assert not small_gaussian_fits(noisy - exact, SMALL * 1.05, 6)
    assert not small_gaussian_fits(noisy - exact, SMALL * 0.95, 6)
    assert not small_gaussian_fits(noisy - (1 - exact), SMALL, 6)


def test_both_samplers_draw_the_same_noise() -> None:
    """Our own and OpenDP's, which is the reference: 1e6 and 2e5 draws, each value within 2 deviations by itself.

    False failure: 1e-9. Power: 5% more or less, and noise whose every second value is missing, must be rejected.
    """
    noise = GaussianNoise(17.3)
    own, reference = noise.add(np.zeros(MILLION, np.int64)), noise.add_by_opendp(np.zeros(200_000, np.int64))
    for drawn in (own, reference):
        assert small_gaussian_fits(drawn, noise.scale, 36)
        assert not small_gaussian_fits(drawn, noise.scale * 1.05, 36)
        assert not small_gaussian_fits(drawn, noise.scale * 0.95, 36)
    assert not small_gaussian_fits(own // 2 * 2, noise.scale, 36)


def test_n2_the_scale_is_the_planned_one() -> None:
    """1e5 draws: chi-square accepts the planned scale.

    False failure: 1e-9, at a statistic of 118 with 39 degrees of freedom. At 5% more or less its expectation is above 450 with a
    deviation below 50, so a wrong scale is let through with a probability below 1e-9.
    """
    noise = GaussianNoise(STAGE.scale).add(np.zeros(100_000, np.int64))
    assert gaussian_fits(noise, STAGE.scale)
    assert not gaussian_fits(noise, STAGE.scale * 1.05)
    assert not gaussian_fits(noise, STAGE.scale * 0.95)


def test_the_noise_does_not_depend_on_the_value_nor_on_its_place() -> None:
    """Noise on large values of both signs, in all batches of a long array, and neighbours are not correlated.

    False failure: 1e-9 for each of the two scale checks; the correlation of 5e4 pairs is within 6.2 of its deviations. The
    same statistic rejects noise that is drawn once for two neighbours.
    """
    values = np.tile(np.array([-(2**60), 2**60 + 1]), 50_000)
    noise = GaussianNoise(STAGE.scale).add(values) - values
    assert gaussian_fits(noise[0::2], STAGE.scale)
    assert gaussian_fits(noise[1::2], STAGE.scale)

    def uncorrelated(first: np.ndarray, second: np.ndarray) -> bool:
        products = (first / STAGE.scale) * (second / STAGE.scale)
        return bool(abs(products.mean()) < 6.2 / len(products) ** 0.5)

    assert uncorrelated(noise[0::2], noise[1::2])
    assert not uncorrelated(noise[0::2], noise[0::2])


_copied = np.random.default_rng(1)


def _send_draws(pipe: Connection, own: bool) -> None:
    """What a forked worker does; `own` False is the broken one, with a generator from before the fork."""
    zeros = np.zeros(200, np.int64)
    draws = GaussianNoise(2.0**40).add(zeros) if own else np.rint(_copied.normal(size=200) * 2.0**40).astype(np.int64)
    pipe.send((os.getpid(), draws.tolist()))
    pipe.close()


def _fork_and_draw(own: bool) -> list[int]:
    """The draws of 2 runs of 8 workers each."""
    context = multiprocessing.get_context("fork")
    pids, draws = set(), []
    for _ in range(2):
        ends = [context.Pipe(duplex=False) for _ in range(8)]
        workers = [context.Process(target=_send_draws, args=(sender, own)) for _, sender in ends]
        for worker in workers:
            worker.start()
        for receiver, _ in ends:
            assert receiver.poll(120), "a forked worker hangs"
            pid, drawn = receiver.recv()
            pids.add(pid)
            draws += drawn
        for worker in workers:
            worker.join(120)
            assert worker.exitcode == 0
    assert len(pids) == 16
    assert os.getpid() not in pids
    assert len(draws) == 3200
    return draws


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_n3_forked_workers_draw_anew() -> None:
    """After noise was drawn in the parent, 8 forked workers, 2 runs: no repeated draws at scale 2^40.

    False failure: 3,200 draws have 5.1e6 pairs, each equal with probability 0.28 / 2^40, so two equal pairs 1e-12.
    """
    before = GaussianNoise(2.0**40).add(np.zeros(200, np.int64)).tolist()
    draws = _fork_and_draw(own=True)
    assert hardly_repeats(before + draws)
    copied = _fork_and_draw(own=False)
    assert not hardly_repeats(copied)
    assert len(set(copied)) == 200


def test_read_only_and_empty_arrays() -> None:
    """Arrow-backed arrays cannot be written to; they are read, and stay as they are."""
    column = pa.array(range(40_000), pa.int64())
    values = column.to_numpy()
    assert not values.flags.writeable
    noisy = GaussianNoise(1e6).add(values)
    assert noisy.shape == values.shape
    assert (values == np.arange(40_000)).all()
    assert (noisy != values).mean() > 0.99
    for empty in (np.zeros(0, np.int64), pa.array([], pa.int64()).to_numpy()):
        assert GaussianNoise(1e6).add(empty).shape == (0,)
        assert GaussianNoise(1e6).add(empty).dtype == np.int64


def test_the_input_is_not_written_to() -> None:
    """The result is a new array, also where the input can be written to, and is empty."""
    for values in (np.arange(100), np.zeros(0, np.int64)):
        kept = values.copy()
        noisy = GaussianNoise(1e6).add(values)
        assert not np.shares_memory(noisy, values)
        assert (values == kept).all()


def test_n5_noise_at_the_ends_of_int64_saturates() -> None:
    """Nothing wraps and nothing fails at the ends of the type, whatever is drawn."""
    top, bottom = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    for end in (top, bottom):
        noisy = GaussianNoise(2.0**40).add(np.full(2_000, end))
        # Half of the draws point outwards; that none of 2,000 does has probability 2^-2000.
        assert (noisy == end).any()
        assert all(abs(value - end) < 2**50 for value in noisy.tolist())
    wide = GaussianNoise(2.0**70).add(np.zeros(2_000, np.int64))
    assert (wide == top).any()
    assert (wide == bottom).any()
