"""A session of Spark on this machine, one for all tests."""

import os
import shutil
import sys
from collections.abc import Iterator

import pytest

from training.engine.spark import SparkEngine
from training.models import als_shards
from training.models import fill as filling


@pytest.fixture(scope="session")
def java() -> None:
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java runtime: Spark is not tested")


@pytest.fixture(scope="session")
def spark(java: None) -> Iterator[SparkEngine]:
    """As where nothing names a cluster: in a JVM of this machine, with processes for Python's work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        with SparkEngine() as engine:
            yield engine


@pytest.fixture(autouse=True)
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few users each."""
    monkeypatch.setattr(als_shards, "_RATINGS_PER_SHARD", 200)
    monkeypatch.setattr(filling, "_USERS_PER_SHARD", 25)
