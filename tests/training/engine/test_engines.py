"""Both engines: what is done to shards gives the same bits, in the same order."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from typing_extensions import override

from training.engine.engine import Arrays, Engine, Work, added_up
from training.engine.local import LocalEngine
from training.engine.spark import SparkEngine
from training.errors import TrainingError


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
    parts = [shard([place], [place]) for place in range(20)]
    found = list(engine.shards(parts).map(Scaled(2)).collect())
    assert [one["weights"].tolist() for one in found] == [[2.0 * place] for place in range(20)]
    assert {one["weights"].dtype for one in found} == {np.dtype(np.float32)}


def test_sums_by_movie_are_those_of_the_shards_in_order(engine: Engine) -> None:
    parts = [shard([0, 2, 5], [1e8, 1, 2]), shard([2], [3]), shard([0, 1], [-1e8, 7]), shard([0], [0.25])]
    even, odd = engine.shards(parts).map(Scaled(1)).sum_by_movie(2).collect()
    assert even["movie_rows"].tolist() == [0, 2]
    assert even["weights"].tolist() == [0.25, 4.0]
    assert odd["movie_rows"].tolist() == [1, 5]
    assert odd["weights"].tolist() == [7.0, 2.0]
    assert odd["weights"].dtype == np.float64


def test_what_is_kept_can_be_asked_twice(engine: Engine) -> None:
    with engine.shards([shard([1], [1]), shard([2], [2])]).map(Scaled(3)).kept() as kept:
        first, second = (list(kept.map(Scaled(1)).collect()) for _ in range(2))
    assert (
        [one["weights"].tolist() for one in first]
        == [one["weights"].tolist() for one in second]
        == [[3], [6]]
    )


def test_no_shards_are_no_shards(engine: Engine) -> None:
    assert list(engine.shards([]).map(Scaled(1)).collect()) == []


def test_a_fault_that_work_finds_is_told_in_its_words(engine: Engine) -> None:
    with pytest.raises(TrainingError, match=r"^there is no finite solution$"):
        list(engine.shards([shard([1], [1])]).map(Refused()).collect())


def test_a_movie_of_several_shards_has_one_row_in_the_sums() -> None:
    sums = added_up([shard([1, 4], [1, 2]), shard([4], [8])])
    assert sums["movie_rows"].tolist() == [1, 4]
    assert sums["weights"].tolist() == [1, 10]
