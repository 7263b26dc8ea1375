"""Candidates on arrays that can be checked by eye."""

from typing import Any

import numpy as np
import pytest

from candidate_service.retrieval import Retriever
from serving.bundle.manifest import GoldenCandidates
from serving.bundle.store import BundleError
from serving.filters import MovieFilter
from serving.fold_in import FoldIn
from serving.ratings import NO_TIME, RatedMovies
from serving.stages.candidate import CandidateList, CandidateQuery, UserVector
from tests.candidate_service.small import ITEM_FACTORS, MOVIES, PARAMETERS, USER_FACTORS, retriever


def ask(query: CandidateQuery, model: Retriever | None = None) -> CandidateList:
    (answer,) = (model or retriever()).retrieve([query])
    return answer


def rated(*movie_ids: int, stars: float = 5.0) -> RatedMovies:
    return RatedMovies(movie_ids, (stars,) * len(movie_ids), (NO_TIME,) * len(movie_ids))


def test_best_first_without_seen_and_cold_ties_to_the_lower_id() -> None:
    answer = ask(CandidateQuery(user_id=1, limit=10))
    assert answer.movie_ids.tolist() == [10, 50, 30]
    assert answer.scores.tolist() == [1, 1, 0]
    assert answer.scores.dtype == np.float32
    assert answer.user_vector is UserVector.TRAINED


@pytest.mark.parametrize(
    ("fields", "movie_ids"),
    [
        pytest.param({"limit": 1}, [10], id="limit"),
        pytest.param({}, [10, 50], id="without one, as many as the ranker learned from"),
        pytest.param({"limit": 10, "include_seen": True}, [20, 10, 50, 30], id="include seen"),
        pytest.param(
            {"limit": 2, "exclude_movie_ids": np.array([10, 99, 10])},
            [50, 30],
            id="excluded movies make room, and unknown ones are ignored",
        ),
        pytest.param({"limit": 1, "movie_filter": MovieFilter(genres=("war",))}, [50], id="filter first"),
        pytest.param({"limit": 9, "movie_filter": MovieFilter(max_year=1993)}, [10, 30], id="years"),
        pytest.param({"limit": 9, "movie_filter": MovieFilter(genres=("Western",))}, [], id="nothing left"),
        pytest.param({"limit": 9, "history": rated(99)}, [10, 50, 30], id="history of unknown movies alone"),
    ],
)
def test_what_is_asked_for_of_a_known_user(fields: dict[str, Any], movie_ids: list[int]) -> None:
    answer = ask(CandidateQuery(user_id=1, **fields))
    assert answer.movie_ids.tolist() == movie_ids
    assert answer.user_vector is UserVector.TRAINED


@pytest.mark.parametrize(
    "query",
    [
        CandidateQuery(user_id=99, limit=9),
        CandidateQuery(user_id=2**63 - 1, limit=9),
        CandidateQuery(user_id=0, limit=9),
        CandidateQuery(user_id=2, limit=9),  # trained, but a dislike alone gives no vector
        CandidateQuery(user_id=0, limit=9, history=rated(99)),  # an unknown movie
        CandidateQuery(user_id=0, limit=9, history=rated(40)),  # a cold movie
        CandidateQuery(user_id=0, limit=9, history=rated(10, stars=1.0)),
    ],
    ids=["unknown", "huge", "nobody", "dislikes", "unknown-movie", "cold-movie", "new-dislike"],
)
def test_who_has_no_vector_gets_an_empty_list(query: CandidateQuery) -> None:
    answer = ask(query)
    assert answer.user_vector is UserVector.NONE
    assert answer.movie_ids.size == answer.scores.size == 0


def test_history_alone_is_folded_in() -> None:
    answer = ask(CandidateQuery(user_id=0, limit=9, history=rated(20)))
    vector = FoldIn(ITEM_FACTORS, PARAMETERS).user_vector(rated(20).history(MOVIES.ids))
    assert vector is not None
    assert answer.user_vector is UserVector.FOLDED_IN
    assert answer.movie_ids.tolist()[0] == 10  # along the first axis, as 20 is; 20 itself is seen
    assert 20 not in answer.movie_ids
    np.testing.assert_allclose(answer.scores[0], ITEM_FACTORS[0] @ vector, rtol=1e-6)


def test_history_joins_the_training_ratings() -> None:
    both = ask(CandidateQuery(user_id=1, limit=9, history=rated(30)))
    same = ask(CandidateQuery(user_id=0, limit=9, history=rated(20, 30)))
    assert both.user_vector is UserVector.FOLDED_IN
    assert both.movie_ids.tolist() == same.movie_ids.tolist()
    assert both.scores.tolist() == same.scores.tolist()
    assert not {20, 30} & set(both.movie_ids.tolist())


def test_history_gives_a_vector_to_a_user_of_dislikes() -> None:
    assert ask(CandidateQuery(user_id=2, limit=9, history=rated(10))).user_vector is UserVector.FOLDED_IN


@pytest.mark.row(17)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_movie_whose_factors_are_not_finite_is_left_out(bad: float) -> None:
    item_factors = ITEM_FACTORS.copy()
    item_factors[0, 0] = bad
    model = retriever(item_factors)
    assert ask(CandidateQuery(user_id=1, limit=9), model).movie_ids.tolist() == [50, 30]
    folded = ask(CandidateQuery(user_id=0, limit=9, history=rated(20)), model)
    assert folded.movie_ids.tolist()[0] == 50
    assert np.isfinite(folded.scores).all()


@pytest.mark.row(17)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_user_whose_factors_are_not_finite_has_none(bad: float) -> None:
    user_factors = USER_FACTORS.copy()
    user_factors[0, 1] = bad
    assert ask(CandidateQuery(user_id=1, limit=9), retriever(user_factors=user_factors)).user_vector is (
        UserVector.NONE
    )


def test_golden_values_are_checked() -> None:
    retriever().check(GoldenCandidates(user_id=1, movie_ids=(10, 50), scores=(1.0, 1.0)))
    for movie_ids, scores in (
        ((50, 10), (1.0, 1.0)),
        ((10, 50), (1.0, 1.1)),
        ((10, 50, 30, 40), (1.0, 1.0, 0.0, 0.0)),
    ):
        with pytest.raises(BundleError, match="golden"):
            retriever().check(GoldenCandidates(user_id=1, movie_ids=movie_ids, scores=scores))


def test_below_the_least_history_there_are_no_candidates() -> None:
    # User 1 has one rating, user 3 has two.
    model = retriever(least_history=2)
    short, long = model.retrieve(
        [CandidateQuery(1, limit=2, probe_movie_ids=(10,)), CandidateQuery(3, limit=2)]
    )
    assert (short.movie_ids.size, short.short_history, short.user_vector) == (0, True, UserVector.TRAINED)
    assert [probe.score for probe in short.probes] == [1.0]
    assert (long.movie_ids.size > 0, long.short_history) == (True, False)
    again, unknown = model.retrieve(
        [
            CandidateQuery(1, limit=2, history=RatedMovies((30,), (5.0,), (NO_TIME,))),
            CandidateQuery(77, limit=2, history=RatedMovies((30, 99), (5.0, 5.0), (NO_TIME, NO_TIME))),
        ]
    )
    assert (again.movie_ids.size > 0, again.short_history) == (True, False)
    assert (unknown.movie_ids.size, unknown.short_history) == (0, True)  # 99 is in no catalogue
