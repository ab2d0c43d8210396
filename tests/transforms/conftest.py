"""Fixtures of the tests of the Beam steps."""

import pytest
from hypothesis import settings

from tests.transforms import harness, world

settings.register_profile("steady", deadline=None, database=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def world_setup(tmp_path_factory):
    """The shared world, resolved, with one secret; and all its events as the steps get them."""
    setup = harness.set_up(world.write(tmp_path_factory.mktemp("world")))
    return setup, harness.read_all(setup)
