"""Both engines: what is done to shards, and what jobs compute, has the same bits, in the same order.

One module, so that one worker of pytest starts Spark.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from typing_extensions import override

from tests.conftest import Trained
from tests.training.engine.jobs import factors, filled
from tests.training.small import N_MOVIES, RECIPE, table_of, tastes
from training.cli.train import app
from training.engine.engine import Arrays, Engine, GatheredParts, Work
from training.engine.local import LocalEngine
from training.engine.spark import SparkEngine
from training.errors import TrainingError
from training.features import transitions
from training.models.als import Als


@dataclass(frozen=True)
class Scaled(Work):
    """Multiplies by a factor."""

    factor: float

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        return lambda shard: {**shard, "weights": shard["weights"] * np.float32(self.factor)}


@dataclass(frozen=True)
class Refused(Work):
    """Finds fault with what it is given."""

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        def refuse(_: Arrays) -> Arrays:
            raise TrainingError("there is no finite solution")

        return refuse


@pytest.fixture(params=["local", "spark"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "local":
        return LocalEngine(2)
    spark: SparkEngine = request.getfixturevalue("spark")
    return spark


def shard(rows: list[int], weights: list[float]) -> Arrays:
    return {"movie_rows": np.array(rows, np.int32), "weights": np.array(weights, np.float32)}


def test_shards_come_back_in_their_order(engine: Engine) -> None:
    parts = GatheredParts(20, lambda place: shard([place], [place]))
    found = list(engine.shards(parts).map(Scaled(2)).map(Scaled(3)).collect())
    assert [one["weights"].tolist() for one in found] == [[6.0 * place] for place in range(20)]
    assert {one["weights"].dtype for one in found} == {np.dtype(np.float32)}


def test_what_is_kept_can_be_asked_twice(engine: Engine) -> None:
    with engine.shards([shard([1], [1]), shard([2], [2])]).map(Scaled(3)).kept() as kept:
        first, second = list(kept.map(Scaled(1)).collect()), list(kept.collect())
    assert (
        [one["weights"].tolist() for one in first]
        == [one["weights"].tolist() for one in second]
        == [[3], [6]]
    )


def test_no_shards_are_no_shards(engine: Engine) -> None:
    assert list(engine.shards([]).map(Scaled(1)).collect()) == []


def test_a_part_that_cannot_be_gathered_is_not_the_end(engine: Engine) -> None:
    """An `IndexError` is, to who goes through a sequence."""
    parts = GatheredParts(3, lambda place: [shard([1], [1])][place])
    with pytest.raises(IndexError):
        list(engine.shards(parts).map(Scaled(1)).collect())


def test_a_fault_that_work_finds_is_told_in_its_words(engine: Engine) -> None:
    with pytest.raises(TrainingError, match=r"^there is no finite solution$"):
        list(engine.shards([shard([1], [1])]).map(Refused()).collect())


# Jobs


def test_item_factors_have_the_bits_of_this_machine(spark: SparkEngine) -> None:
    assert factors(spark) == factors(LocalEngine(2))


def test_user_vectors_have_the_bits_of_this_machine(spark: SparkEngine) -> None:
    ratings = tastes()
    local = Als.fit(ratings, N_MOVIES, RECIPE.als, seed=0, engine=LocalEngine(1))
    some = np.array([3, 1, 40], np.int32)
    for users in (None, some):
        on_spark, here = (
            Als.of_items(local.item_factors, ratings, RECIPE.als, engine=engine, users=users)
            for engine in (spark, LocalEngine(1))
        )
        assert on_spark.user_factors.tobytes() == here.user_factors.tobytes()


def test_links_have_the_bits_of_this_machine(spark: SparkEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "_RATINGS_PER_BLOCK", 200)
    on_spark, here = (transitions.build(tastes(), table_of(), engine) for engine in (spark, LocalEngine(2)))
    assert {name: array.tobytes() for name, array in on_spark.items()} == {
        name: array.tobytes() for name, array in here.items()
    }


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
