"""What the gateway's tests share."""

import gc
from collections.abc import Iterator

import pytest

from tests.gateway.small_world import World


@pytest.fixture
def world() -> World:
    """A gateway over stub stages."""
    return World()


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    """Leaves what refers to itself where it is: only the last reference frees an object."""
    gc.disable()
    yield
    gc.enable()
