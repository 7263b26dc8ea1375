"""On executors that are processes of their own: one bundle, also when one of them dies in the middle."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks.spark_cluster import SparkCluster, spark_cluster
from candidate_service.retrieval import Retriever
from ranking_service.ranking import Ranker
from serving.bundle.store import BundleStore
from tests.conftest import Trained
from tests.training.engine.jobs import factors, filled
from tests.training.small import JOB, PROGRESS, RECIPE, build_of
from training.engine.local import LocalEngine
from training.engine.spark import SparkEngine
from training.publish.publish import publish

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Cluster:
    """A driver's session on a cluster of two workers."""

    engine: SparkEngine
    processes: SparkCluster

    def executors(self) -> list[int]:
        """Process ids of those that live."""
        children = [
            pid
            for worker in self.processes.workers
            for file in Path(f"/proc/{worker.pid}/task").glob("*/children")
            for pid in file.read_text().split()
        ]
        backend = "CoarseGrainedExecutorBackend"
        return [int(pid) for pid in children if backend in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.fixture(scope="module")
def cluster(java: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if SparkSession.getActiveSession() is not None:
        pytest.skip("this process has a session of Spark without executors; `make test-long` has not")
    with (
        spark_cluster(tmp_path_factory.mktemp("spark")) as processes,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in processes.environment.items():
            patch.setenv(name, value)
        with SparkEngine() as engine:
            yield Cluster(engine, processes)


def test_what_is_trained_on_spark_is_one_bundle_and_servers_take_it(cluster: Cluster, tmp_path: Path) -> None:
    ids = set()
    for name, engine in (("first", cluster.engine), ("second", cluster.engine), ("here", LocalEngine(2))):
        build = build_of(job=replace(JOB, engine=engine))
        ids.add(publish(tmp_path / name, build, PROGRESS))
    (bundle_id,) = ids
    store = BundleStore(tmp_path / "first")
    Retriever.load(store, bundle_id)  # which checks golden values
    Ranker.load(store, bundle_id)


def test_a_worker_that_is_killed_and_then_an_executor_change_nothing(
    cluster: Cluster, trained: Trained, tmp_path: Path
) -> None:
    """By SIGKILL: what they kept and had shuffled is lost. An executor's worker starts another."""
    expected = factors(LocalEngine(2))
    iterations = 0

    def kill_worker() -> None:
        nonlocal iterations
        iterations += 1
        if iterations == 2:
            os.kill(cluster.processes.workers[0].pid, signal.SIGKILL)

    assert factors(cluster.engine, kill_worker) == expected
    assert iterations == RECIPE.als.iterations

    (before,) = cluster.executors()
    killed: list[int] = []

    def kill_executor() -> None:
        if not killed:
            os.kill(before, signal.SIGKILL)
            killed.append(before)

    on_spark = filled(trained, tmp_path / "spark.parquet", cluster.engine, kill_executor)
    assert on_spark == filled(trained, tmp_path / "here.parquet", LocalEngine(1))
    (after,) = cluster.executors()
    assert after != before


def test_the_command_publishes_the_same_bundle_of_real_ratings(java: None, tmp_path: Path) -> None:
    """`train-ranker` itself loads the bundle as each server does before it points to it."""
    data = os.environ.get("MOVIEREC_DATA_DIR")
    if data is None:
        pytest.skip("MOVIEREC_DATA_DIR names no ratings")
    command = [sys.executable, "-m", "training", "train-ranker", "--data-dir", data, "--bundle-root"]
    with spark_cluster(tmp_path) as processes:
        for engine in ("spark", "local"):
            subprocess.run(
                [*command, str(tmp_path / engine), "--engine", engine],
                env={**os.environ, **(processes.environment if engine == "spark" else {})},
                timeout=900,
                check=True,
            )
    on_spark, here = (BundleStore(tmp_path / engine).pointer() for engine in ("spark", "local"))
    assert on_spark.bundle_id == here.bundle_id


FULL_HEAP = """
import numpy as np
from training.engine.spark import EngineError, SparkEngine

try:
    with SparkEngine() as engine:
        list(engine.shards([{"x": np.zeros(20_000_000)} for _ in range(4)]).collect())
except EngineError as error:
    print(error)
"""


def test_a_driver_whose_heap_is_full_ends_in_one_line(java: None) -> None:
    """The job waited for good: the JVM lived on without the threads that had died of it."""
    local = ("spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1", "spark.ui.enabled=false")
    options = " ".join(f"--conf {setting}" for setting in local)
    arguments = f"--master local[1] --driver-memory 512m {options} pyspark-shell"
    ended = subprocess.run(
        [sys.executable, "-c", FULL_HEAP],
        env={**os.environ, "PYSPARK_SUBMIT_ARGS": arguments, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "spark.driver.memory" in ended.stdout.splitlines()[-1]
