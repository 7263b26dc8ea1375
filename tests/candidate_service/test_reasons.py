"""Reasons for candidates: terms that add up, and the largest of them."""

from dataclasses import replace

import numpy as np
import pytest

from candidate_service.reasons import reasons_for
from serving.fold_in import FoldIn
from serving.ratings import LIKED, NO_TIME, History, RatedMovies
from serving.stages.candidate import CandidateQuery
from tests.candidate_service.small import ITEM_FACTORS, PARAMETERS, retriever

ALL = np.arange(5, dtype=np.int32)


def history(stars: dict[int, float]) -> History:
    """Ratings by movie row, in this order."""
    return History(
        movie_rows=np.array(list(stars), dtype=np.int32),
        values=np.array(list(stars.values()), dtype=np.float32),
        times=np.arange(len(stars)),
    )


def test_terms_by_hand() -> None:
    # One factor, movies of 1 and 2: A = (1 + 4) + 0.1 + 5 · 1, as the first is liked with confidence 6.
    fold_in = FoldIn(np.array([[1], [2]], dtype=np.float32), PARAMETERS)
    terms = fold_in.score_terms(history({0: 5}), np.array([0]), np.array([0, 1], dtype=np.int32))
    np.testing.assert_allclose(terms, [[6 / 10.1], [12 / 10.1]], rtol=1e-6)


def test_the_likes_that_add_most_come_first() -> None:
    rated = history({0: 5, 1: 1, 2: 4, 4: 5})
    fold_in = FoldIn(ITEM_FACTORS, PARAMETERS)
    terms = fold_in.score_terms(rated, np.arange(4), ALL)
    rows, weights = reasons_for(ALL, rated, fold_in, 3)
    for place in ALL.tolist():
        likes = {row: terms[place, n] for n, row in enumerate([0, 1, 2, 4]) if rated.values[n] >= LIKED}
        expected = sorted((row for row in likes if likes[row] > 0), key=lambda row: -likes[row])
        assert [row for row in rows[place].tolist() if row >= 0] == expected
        added = [weight for weight in weights[place].tolist() if weight > 0]
        np.testing.assert_allclose(added, [likes[row] for row in expected], rtol=1e-5)


def test_fewer_likes_than_asked_for_leave_gaps() -> None:
    rows, weights = reasons_for(ALL[:2], history({0: 5, 1: 1}), FoldIn(ITEM_FACTORS, PARAMETERS), 3)
    assert rows.tolist() == [[0, -1, -1]] * 2  # 1 is no like
    assert (weights[:, 0] > 0).all()
    assert weights[:, 1:].tolist() == [[0, 0]] * 2


def test_what_speaks_against_a_candidate_is_no_reason() -> None:
    factors = np.array([[1, 0], [-1, 0.5]], dtype=np.float32)
    rows, weights = reasons_for(np.array([1], np.int32), history({0: 5}), FoldIn(factors, PARAMETERS), 1)
    assert (rows.tolist(), weights.tolist()) == ([[-1]], [[0.0]])


@pytest.mark.row(19)
def test_only_the_newest_of_very_many_likes_are_looked_at() -> None:
    factors = np.ones((1200, 2), dtype=np.float32)
    factors[:200] *= 5  # the oldest would speak most
    everything = history(dict.fromkeys(range(1200), 5.0))
    rows, _ = reasons_for(np.array([0], np.int32), everything, FoldIn(factors, PARAMETERS), 3)
    assert rows.min() >= 200


def test_reasons_of_the_retriever_are_asked_for() -> None:
    query = CandidateQuery(user_id=0, limit=9, history=RatedMovies((10, 30), (5.0, 5.0), (NO_TIME, NO_TIME)))
    answer, unasked = retriever().retrieve([replace(query, because_of=2), query])
    assert answer.movie_ids.tolist() == [50, 20]
    assert answer.because_of.movie_ids.tolist() == [[30, 10], [10, 0]]
    assert answer.because_of.weights.shape == (2, 2)
    assert answer.because_of.weights[1, 1] == 0
    assert unasked.because_of.movie_ids.size == unasked.because_of.weights.size == 0
