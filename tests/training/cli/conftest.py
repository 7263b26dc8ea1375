"""What tests of commands share."""

from pathlib import Path

import pytest


@pytest.fixture
def no_data(tmp_path: Path) -> Path:
    """A folder that is not a data set."""
    folder = tmp_path / "no-data"
    folder.mkdir()
    return folder
