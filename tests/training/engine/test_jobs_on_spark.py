"""What jobs compute on a cluster: the bits of this machine, also when a worker dies in the middle."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from candidate_service.retrieval import Retriever
from ranking_service.ranking import Ranker
from serving.bundle.store import BundleStore
from tests.conftest import Trained
from tests.training.engine.conftest import Executors
from tests.training.small import JOB, N_MOVIES, PROGRESS, RECIPE, table_of, tastes
from training.cli.train import app
from training.engine.engine import Engine
from training.engine.local import LocalEngine
from training.engine.spark import SparkEngine
from training.errors import TrainingError
from training.models import als_shards
from training.models import fill as filling
from training.models.als import Als
from training.models.als_shards import fit_on_shards
from training.models.fill import fill
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss
from training.models.two_stage import fit_two_stage
from training.publish.publish import Build, publish


@pytest.fixture(autouse=True)
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few users each, and sums in more than one block."""
    monkeypatch.setattr(als_shards, "_USERS_PER_SHARD", 7)
    monkeypatch.setattr(als_shards, "_BYTES_PER_BLOCK", 10_000)
    monkeypatch.setattr(filling, "_USERS_PER_SHARD", 25)


def nothing() -> None:
    """Progress that nobody watches."""


def factors(engine: Engine, progress: Callable[[], None] = nothing) -> bytes:
    return fit_on_shards(engine, tastes(), N_MOVIES, RECIPE.als, seed=0, progress=progress).tobytes()


def filled(trained: Trained, out: Path, engine: Engine, advance: Callable[[], None] = nothing) -> bytes:
    bundle = trained.root / "bundles" / trained.bundle_id
    n_users = len(trained.two_stage.stage.ratings.users)
    fill(bundle, n_users, 20, out, engine=engine, advance=advance)
    return out.read_bytes()


def test_item_factors_have_the_bits_of_this_machine(spark: SparkEngine) -> None:
    assert factors(spark) == factors(LocalEngine(2))


def test_user_vectors_have_the_bits_of_this_machine(spark: SparkEngine) -> None:
    ratings = tastes()
    local = Als.fit(ratings, N_MOVIES, RECIPE.als, seed=0, threads=1)
    some = np.array([3, 1, 40], np.int32)
    for users in (None, some):
        on_spark, here = (
            Als.of_items(local.item_factors, ratings, RECIPE.als, engine=engine, users=users)
            for engine in (spark, LocalEngine(1))
        )
        assert on_spark.user_factors.tobytes() == here.user_factors.tobytes()


def test_a_fit_without_a_finite_solution_is_told_as_on_this_machine(spark: SparkEngine) -> None:
    ratings = tastes()
    too_large = np.full((N_MOVIES, RECIPE.als.factors), 1e30, np.float32)
    told = []
    for engine in (spark, LocalEngine(1)):
        with pytest.raises(TrainingError, match="ALS has no finite solution") as raised:
            Als.of_items(too_large, ratings, RECIPE.als, engine=engine)
        told.append(str(raised.value))
    assert told[0] == told[1]


def test_lists_have_the_bytes_of_this_machine(spark: SparkEngine, trained: Trained, tmp_path: Path) -> None:
    here = filled(trained, tmp_path / "here.parquet", LocalEngine(1))
    assert filled(trained, tmp_path / "spark.parquet", spark) == here


@pytest.mark.long
def test_what_is_trained_on_spark_is_one_bundle_and_servers_take_it(
    spark: SparkEngine, tmp_path: Path
) -> None:
    job = replace(JOB, engine=spark)
    ids = set()
    for name in ("first", "second"):
        two_stage = fit_two_stage(tastes(), job, RankerChoice(Loss.LOGLOSS, 5, held_out_ndcg={}))
        build = Build(two_stage=two_stage, table=table_of(), recipe=RECIPE, dataset_tag="tastes", metrics={})
        ids.add(publish(tmp_path / name, build, PROGRESS))
    (bundle_id,) = ids
    store = BundleStore(tmp_path / "first")
    Retriever.load(store, bundle_id)  # which checks golden values
    Ranker.load(store, bundle_id)


@pytest.mark.long
def test_an_executor_that_is_killed_changes_nothing(
    spark: SparkEngine, executors: Executors, trained: Trained, tmp_path: Path
) -> None:
    expected = factors(LocalEngine(2))
    before = executors.pids()
    iterations = 0

    def kill_one() -> None:
        nonlocal iterations
        iterations += 1
        if iterations == 2:
            executors.kill_one()

    assert factors(spark, kill_one) == expected
    assert iterations == RECIPE.als.iterations
    assert not set(before) <= set(executors.pids())

    in_the_middle = threading.Timer(1.0, executors.kill_one)
    in_the_middle.start()
    on_spark = filled(trained, tmp_path / "spark.parquet", spark)
    in_the_middle.join()
    assert on_spark == filled(trained, tmp_path / "here.parquet", LocalEngine(1))


def test_a_data_set_that_cannot_be_used_is_told_in_the_same_words(
    tmp_path: Path, spark: SparkEngine, generated: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "movies.csv").write_bytes((generated / "movies.csv").read_bytes())
    (data / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,1,4,10\n1,x,4,10\n", encoding="utf-8"
    )
    told = []
    for engine in ("spark", "local"):
        arguments = ["train", "--data-dir", str(data), "--bundle-root", str(tmp_path / "root")]
        result = CliRunner().invoke(app, [*arguments, "--engine", engine])
        assert result.exit_code == 1
        told.append(result.stderr)
    assert "ratings.csv line 3: movieId must be a whole number" in told[0]
    assert told[0] == told[1]
