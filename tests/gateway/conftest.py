"""What the gateway's tests share."""

import pytest

from tests.gateway.small_world import World


@pytest.fixture
def world() -> World:
    """A gateway over stub stages."""
    return World()
