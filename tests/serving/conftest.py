"""What tests of the kit share."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from serving.logs import configure_logs


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """What the process logs, as in production."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("test", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
