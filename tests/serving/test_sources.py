"""Merging sources of candidates, on lists that can be checked by eye."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.links import LinkTable
from serving.ratings import EMPTY_HISTORY, History
from serving.retrieval import Candidates, retrieve
from serving.sources import ALS_ALONE, CandidateSources, FusedCandidates, Source, SourceWeights, fused

ITEM_FACTORS = np.array([[1], [5], [3], [4], [2], [0]], np.float32)
"""By ALS, of a user with vector 1: 1 3 2 4 0 5."""
POPULARITY = np.array([6, 2, 0, 5, 4, 4], np.float64)
"""The most popular first: 0 3 4 5 1; nobody has rated 2."""
TRANSITIONS = LinkTable(
    indptr=np.array([0, 2, 2, 4, 4, 4, 4]),
    movie_rows=np.array([4, 3, 4, 5], np.int32),
    weights=np.array([1, 0.5, 0.5, 2], np.float32),
)
"""After 0: 4, then 3. After 2: 5, then 4. After both: 5, 4, 3."""
VECTOR = np.ones(1, np.float32)
ALL = SourceWeights(als=1.0, transitions=1.0, popularity=1.0)


def rated(*movie_rows: int) -> History:
    n = len(movie_rows)
    return History(np.array(movie_rows, np.int32), np.full(n, 5, np.float32), np.arange(n))


def found(
    weights: SourceWeights,
    history: History = EMPTY_HISTORY,
    *,
    blocked: tuple[int, ...] = (),
    depth: int = 6,
    limit: int = 6,
) -> FusedCandidates:
    sources = CandidateSources(ITEM_FACTORS, weights, TRANSITIONS, POPULARITY)
    mask = np.zeros(6, np.bool_)
    mask[list(blocked)] = True
    (als,) = retrieve(ITEM_FACTORS, VECTOR[None], [mask], [depth])
    return sources.fuse(als, VECTOR, history, mask, depth=depth, limit=limit)


def rows(candidates: Candidates) -> list[int]:
    found: list[int] = candidates.movie_rows.tolist()
    return found


def test_als_alone_is_the_order_of_its_scores() -> None:
    candidates = found(ALS_ALONE, limit=3)
    assert rows(candidates) == [1, 3, 2]
    assert candidates.scores.tolist() == candidates.fused_scores.tolist() == [5, 4, 3]
    assert candidates.source_ranks == {}


def test_popularity_alone_offers_what_somebody_rated_ties_by_row() -> None:
    candidates = found(SourceWeights(als=0, popularity=1))
    assert rows(candidates) == [0, 3, 4, 5, 1]
    assert candidates.scores.tolist() == [1, 4, 2, 0, 5]
    assert list(candidates.source_ranks) == [Source.POPULARITY]
    assert candidates.source_ranks[Source.POPULARITY].tolist() == [1, 2, 3, 4, 5]


def test_transitions_of_the_last_twenty_movies_are_added_up() -> None:
    weights = SourceWeights(als=0, transitions=1)
    assert rows(found(weights, rated(0))) == [4, 3]
    assert rows(found(weights, rated(2, 0))) == rows(found(weights, rated(0, 2))) == [5, 4, 3]
    assert rows(found(weights, EMPTY_HISTORY)) == []
    assert rows(found(weights, rated(2, 0, *[1] * 19))) == [4, 3]
    assert rows(found(weights, rated(2, 0, *[1] * 20))) == []


def test_ranks_are_fused() -> None:
    candidates = found(SourceWeights(als=1, popularity=0.5), depth=2, limit=3)
    # ALS offers 1 and 3, popularity 0 and 3.
    assert rows(candidates) == [3, 1, 0]
    assert candidates.fused_scores.tolist() == [1 / 62 + 0.5 / 62, 1 / 61, 0.5 / 61]
    assert candidates.source_ranks[Source.ALS].tolist() == [2, 1, 0]
    assert candidates.source_ranks[Source.POPULARITY].tolist() == [2, 0, 1]
    assert candidates.scores.tolist() == [4, 5, 1]  # of ALS, whoever offers the movie
    tied = found(SourceWeights(als=1, popularity=1), depth=1)
    assert (rows(tied), tied.fused_scores.tolist()) == ([0, 1], [1 / 61, 1 / 61])  # the lower row first


def test_what_is_blocked_is_offered_by_nobody_and_holds_no_rank() -> None:
    candidates = found(ALL, rated(0), blocked=(1, 3, 4))
    assert sorted(rows(candidates)) == [0, 2, 5]
    assert candidates.source_ranks[Source.POPULARITY][rows(candidates).index(5)] == 2
    assert rows(found(ALL, rated(0), blocked=tuple(range(6)))) == []


def test_an_infinite_score_is_left_out() -> None:
    sources = CandidateSources(
        np.array([[3e38], [1]], np.float32), SourceWeights(popularity=1.0), None, np.array([2.0, 1.0])
    )
    vector = np.full(1, 10, np.float32)
    with np.errstate(over="ignore"):
        (als,) = retrieve(sources.item_factors, vector[None], [np.zeros(2, np.bool_)], [2])
        candidates = sources.fuse(als, vector, EMPTY_HISTORY, np.zeros(2, np.bool_), depth=2, limit=2)
    assert rows(candidates) == [1]
    assert candidates.source_ranks[Source.POPULARITY].tolist() == [2]


@pytest.mark.parametrize("movie_row", range(6))
def test_a_movie_stands_where_it_is_found(movie_row: int) -> None:
    history = rated(0, 2)
    sources = CandidateSources(ITEM_FACTORS, ALL, TRANSITIONS, POPULARITY)
    standing = sources.standing(VECTOR, history, np.zeros(6, np.bool_), depth=6, movie_row=movie_row)
    candidates = found(ALL, history)
    place = rows(candidates).index(movie_row)
    assert standing.score == candidates.scores[place]
    assert standing.fused_score == candidates.fused_scores[place]
    ranks = {source: int(of_source[place]) for source, of_source in candidates.source_ranks.items()}
    assert standing.source_ranks == {source: rank for source, rank in ranks.items() if rank > 0}
    assert standing.rank == ranks[Source.ALS]


def test_what_is_blocked_stands_where_it_would() -> None:
    sources = CandidateSources(ITEM_FACTORS, ALL, TRANSITIONS, POPULARITY)
    blocked = np.array([True, True, False, True, False, False])
    standing = sources.standing(VECTOR, rated(0), blocked, depth=2, movie_row=3)
    assert (standing.score, standing.rank) == (4, 1)
    assert standing.source_ranks == {Source.ALS: 1, Source.TRANSITIONS: 2, Source.POPULARITY: 1}
    behind = sources.standing(VECTOR, rated(0), blocked, depth=1, movie_row=1)
    assert behind.source_ranks == {Source.ALS: 1}  # two are more popular than the one that is offered


def test_with_als_alone_a_movie_has_no_fused_score() -> None:
    sources = CandidateSources(ITEM_FACTORS)
    nothing = np.zeros(6, np.bool_)
    standing = sources.standing(VECTOR, EMPTY_HISTORY, nothing, depth=1, movie_row=1)
    assert (standing.score, standing.rank, standing.fused_score) == (5, 1, None)
    assert standing.source_ranks == {Source.ALS: 1}
    assert sources.standing(VECTOR, EMPTY_HISTORY, nothing, depth=1, movie_row=3).source_ranks == {}


@given(
    arrays.arrays(np.float64, (3, 12), elements=st.floats(0, 1, width=16)),
    arrays.arrays(np.float64, 3, elements=st.sampled_from([0.0, 0.25, 1.0])),
    st.integers(1, 12),
)
def test_fused_scores_are_those_of_the_paper(scores: Any, weights: Any, limit: int) -> None:
    offers = {
        source: np.argsort(-of, kind="stable").astype(np.int32)[:8]
        for source, of in zip(Source, scores, strict=True)
    }
    if not weights.any():
        return
    own = SourceWeights(*weights.tolist())
    expected: dict[int, float] = {}
    for source, offered in offers.items():
        for rank, row in enumerate(offered.tolist(), start=1):
            expected[row] = expected.get(row, 0.0) + own.of(source) / (60 + rank)
    best = sorted((-score, row) for row, score in expected.items() if score > 0)[:limit]
    found_rows, found_scores = fused(offers, own, limit=limit)
    assert found_rows.tolist() == [row for _, row in best]
    assert found_scores.tolist() == [-score for score, _ in best]


@pytest.mark.parametrize("weights", [(0, 0, 0), (1, -1, 0), (float("nan"), 1, 0), (float("inf"), 0, 0)])
def test_weights_must_be_usable(weights: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        SourceWeights(*weights)


def test_a_source_must_have_its_arrays() -> None:
    with pytest.raises(ValueError, match="transitions are asked for"):
        CandidateSources(ITEM_FACTORS, SourceWeights(transitions=1.0))
    with pytest.raises(ValueError, match="popularity is asked for"):
        CandidateSources(ITEM_FACTORS, SourceWeights(popularity=1.0))
    with pytest.raises(ValueError, match="do not belong together"):
        LinkTable(np.array([0, 2]), np.array([0], np.int32), np.ones(1, np.float32))
