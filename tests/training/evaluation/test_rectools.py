"""Our metrics against RecTools', on generated lists: `make oracle` writes down what it says."""

import json
from pathlib import Path

import numpy as np
import pytest

from serving.ids import Rows
from tests.training.small import ratings_of
from training.evaluation.judging import CUTOFFS, judge
from training.evaluation.splits import Split

_ORACLE = json.loads((Path(__file__).parent / "rectools_metrics.json").read_text())


def rows(*movies: int) -> Rows:
    return np.array(movies, dtype=np.int32)


def generated() -> tuple[list[Rows], Split]:
    relevant = tuple(rows(*movies) for movies in _ORACLE["truth"])
    users = np.arange(len(relevant), dtype=np.int32)
    past = ratings_of(*([(movie, 4.0, 0) for movie in movies] for movies in _ORACLE["past"]))
    split = Split(past, users, relevant, eligible=users.size)
    return [rows(*movies) for movies in _ORACLE["lists"]], split


@pytest.mark.parametrize("k", CUTOFFS)
@pytest.mark.parametrize("metric", ["ndcg", "recall", "precision", "novelty"])
def test_metrics_equal_those_of_rectools(metric: str, k: int) -> None:
    ours = judge(*generated(), candidates=300).per_user[f"{metric}_at_{k}"]
    np.testing.assert_allclose(ours, _ORACLE["per_user"][f"{metric}_at_{k}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", CUTOFFS)
def test_mean_average_precision_is_the_larger_of_the_two_of_rectools(k: int) -> None:
    # RecTools divides by k or by the relevant movies; ours by the smaller of both, so that 1 can be reached.
    theirs = np.maximum(
        _ORACLE["per_user"][f"map_by_relevant_at_{k}"], _ORACLE["per_user"][f"map_by_k_at_{k}"]
    )
    ours = judge(*generated(), candidates=300).per_user[f"map_at_{k}"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", CUTOFFS)
def test_coverage_equals_that_of_rectools(k: int) -> None:
    ours = judge(*generated(), candidates=300).coverage[f"coverage_at_{k}"]
    assert ours == pytest.approx(_ORACLE["coverage"][f"coverage_at_{k}"], abs=1e-9)
