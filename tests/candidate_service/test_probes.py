"""What a probe is told: on arrays that can be checked by eye, and against sorting everything."""

from pathlib import Path

import numpy as np
import pytest

from candidate_service.retrieval import Retriever
from serving.bundle.store import BundleStore
from serving.filters import MovieFilter
from serving.ratings import NO_TIME, RatedMovies
from serving.sources import Source
from serving.stages.candidate import CandidateProbe, CandidateQuery
from tests.candidate_service.small import retriever


def probe(movie_id: int, *, model: Retriever | None = None, **fields: object) -> CandidateProbe:
    query = {"user_id": 1, "limit": 10, "probe_movie_ids": (movie_id,)} | fields
    (answer,) = (model or retriever()).retrieve([CandidateQuery(**query)])  # type: ignore[arg-type]
    (found,) = answer.probes
    return found


def of_als(movie_id: int, *, score: float, rank: int, **left_out: bool) -> CandidateProbe:
    """A movie that ALS, the only source, offers or would offer."""
    return CandidateProbe(movie_id, score=score, rank=rank, source_ranks={Source.ALS: rank}, **left_out)


@pytest.mark.parametrize("limit", [10, 1])
def test_a_candidate_has_its_place_also_below_the_limit(limit: int) -> None:
    # User 1 has seen 20; the list is 10, 50, 30 with scores 1, 1, 0.
    for rank, (movie_id, score) in enumerate(((10, 1.0), (50, 1.0), (30, 0.0)), start=1):
        found = probe(movie_id, limit=limit)
        assert (found.score, found.rank) == (score, rank)


def test_what_is_left_out_has_the_rank_that_it_would_have() -> None:
    assert probe(20) == of_als(20, seen=True, score=2.0, rank=1)
    assert probe(30, exclude_movie_ids=np.array([30, 10])) == of_als(30, excluded=True, score=0.0, rank=2)
    drama = MovieFilter(genres=("Drama",))
    assert probe(30, movie_filter=drama) == of_als(30, filtered_out=True, score=0.0, rank=3)
    assert probe(20, include_seen=True) == of_als(20, seen=True, score=2.0, rank=1)
    everything = of_als(20, seen=True, excluded=True, filtered_out=True, score=2.0, rank=1)
    assert (
        probe(20, exclude_movie_ids=np.array([20]), movie_filter=MovieFilter(genres=("War",))) == everything
    )


def test_history_is_seen() -> None:
    history = RatedMovies((30,), (5.0,), (NO_TIME,))
    assert probe(30, history=history).seen
    assert probe(20, history=history).seen
    assert not probe(10, history=history).seen


def test_cold_and_unknown_movies_have_no_score() -> None:
    assert probe(40) == CandidateProbe(40)
    assert probe(99) == CandidateProbe(99, unknown=True)


def test_a_user_without_a_vector_has_no_probes() -> None:
    (answer,) = retriever().retrieve([CandidateQuery(user_id=2, limit=10, probe_movie_ids=(10,))])
    assert answer.probes == ()


def test_probes_come_in_order_and_change_nothing() -> None:
    plain = CandidateQuery(user_id=1, limit=2)
    probed = CandidateQuery(user_id=1, limit=2, probe_movie_ids=(99, 20, 10))
    without, beside, alone = retriever().retrieve([plain, plain, probed])
    assert [found.movie_id for found in alone.probes] == [99, 20, 10]
    assert without.probes == ()
    for other in (beside, alone):
        assert without.movie_ids.tolist() == other.movie_ids.tolist()
        assert without.scores.tobytes() == other.scores.tobytes()


@pytest.mark.parametrize("limit", [1, 50, 300])
def test_ranks_are_those_of_the_whole_list(bundle_root: Path, limit: int) -> None:
    store = BundleStore(bundle_root)
    model = Retriever.load(store, store.pointer().bundle_id)
    generator = np.random.default_rng(limit)
    for user_id in (1, 2, 3):
        (everything,) = model.retrieve([CandidateQuery(user_id=user_id, limit=1000)])
        # The list may hold 1000 of the movies that all sources offer: the best of ALS are all in it.
        order = np.lexsort((everything.movie_ids, -everything.scores))[:500]
        place_of = {movie_id: place for place, movie_id in enumerate(everything.movie_ids[order].tolist())}
        scores = everything.scores[order]
        probes = tuple(generator.choice(everything.movie_ids[order], 10, replace=False).tolist())
        (answer,) = model.retrieve([CandidateQuery(user_id=user_id, limit=limit, probe_movie_ids=probes)])
        for found in answer.probes:
            place = place_of[found.movie_id]
            assert (found.rank, found.score) == (place + 1, scores[place])
            listed = np.flatnonzero(answer.movie_ids == found.movie_id)
            if listed.size:
                assert found.fused_score == answer.fused_scores[listed[0]]
                ranks = {source: int(of[listed[0]]) for source, of in answer.source_ranks.items()}
                assert found.source_ranks == {source: rank for source, rank in ranks.items() if rank}
