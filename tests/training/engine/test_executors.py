"""On executors that are processes of their own: one bundle, also when one of them dies in the middle."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from candidate_service.retrieval import Retriever
from ranking_service.ranking import Ranker
from serving.bundle.store import BundleStore
from tests.conftest import Trained
from tests.training.engine.jobs import factors, filled
from tests.training.small import JOB, PROGRESS, RECIPE, table_of, tastes
from training.engine.local import LocalEngine
from training.engine.spark import SparkEngine
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss
from training.models.two_stage import fit_two_stage
from training.publish.publish import Build, publish

pytestmark = pytest.mark.long

LOOPBACK = "127.0.0.1"
MASTER = "local-cluster[2,1,1024]"
"""Two workers of one core and 1 GiB, which start executors; the workers are threads of the driver."""


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


@pytest.fixture(scope="module")
def cluster(java: None) -> Iterator[SparkEngine]:
    if SparkSession.getActiveSession() is not None:
        pytest.skip("this process has a session of Spark without executors; `make test-long` has not")
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
def executors(cluster: SparkEngine) -> Executors:
    return Executors(SparkContext.getOrCreate().getConf().get("spark.driver.port") or "")


def test_what_is_trained_on_spark_is_one_bundle_and_servers_take_it(
    cluster: SparkEngine, tmp_path: Path
) -> None:
    ids = set()
    for name, engine in (("first", cluster), ("second", cluster), ("here", LocalEngine(2))):
        job = replace(JOB, engine=engine)
        two_stage = fit_two_stage(tastes(), job, RankerChoice(Loss.LOGLOSS, 5, validation_ndcg={}))
        build = Build(two_stage=two_stage, table=table_of(), recipe=RECIPE, dataset_tag="tastes", metrics={})
        ids.add(publish(tmp_path / name, build, PROGRESS))
    (bundle_id,) = ids
    store = BundleStore(tmp_path / "first")
    Retriever.load(store, bundle_id)  # which checks golden values
    Ranker.load(store, bundle_id)


def test_an_executor_that_is_killed_changes_nothing(
    cluster: SparkEngine, executors: Executors, trained: Trained, tmp_path: Path
) -> None:
    expected = factors(LocalEngine(2))
    before = executors.pids()
    iterations = 0

    def kill_one() -> None:
        nonlocal iterations
        iterations += 1
        if iterations == 2:
            executors.kill_one()

    assert factors(cluster, kill_one) == expected
    assert iterations == RECIPE.als.iterations
    assert not set(before) <= set(executors.pids())

    in_the_middle = threading.Timer(1.0, executors.kill_one)
    in_the_middle.start()
    on_spark = filled(trained, tmp_path / "spark.parquet", cluster)
    in_the_middle.join()
    assert on_spark == filled(trained, tmp_path / "here.parquet", LocalEngine(1))
