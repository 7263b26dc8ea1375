"""Spark as a cluster runs it: executors are processes of their own, here all on loopback."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark import SparkContext

from training.engine.spark import SparkEngine

LOOPBACK = "127.0.0.1"
MASTER = "local-cluster[2,1,1024]"
"""Two workers of one core and 1 GiB, which start executors; the workers themselves are threads of the driver."""


@dataclass(frozen=True)
class Executors:
    """The executors that work for this process's driver."""

    driver_port: str

    def pids(self) -> list[int]:
        """Of those that live."""
        driver = f"@{LOOPBACK}:{self.driver_port}"
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = process.joinpath("cmdline").read_text()
            except OSError:  # ended meanwhile, or somebody else's
                continue
            if "CoarseGrainedExecutorBackend" in command and driver in command:
                found.append(int(process.name))
        return sorted(found)

    def kill_one(self) -> None:
        """SIGKILL: what it kept and had shuffled is lost, and its worker starts another."""
        os.kill(self.pids()[0], signal.SIGKILL)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkEngine]:
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java runtime: Spark is not tested")
    settings = {
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.ui.enabled": "false",
        "spark.executor.memory": "512m",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    }
    arguments = " ".join(f"--conf {name}={value}" for name, value in settings.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"--master {MASTER} {arguments} pyspark-shell")
        patch.setenv("SPARK_LOCAL_IP", LOOPBACK)
        with SparkEngine() as engine:
            yield engine


@pytest.fixture
def executors(spark: SparkEngine) -> Executors:
    return Executors(SparkContext.getOrCreate().getConf().get("spark.driver.port") or "")
