"""Messages of all packages, there and back; of candidates and ranks, that nothing unusable gets past."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from movierec.candidate.v1 import candidate_service_pb2 as pb
from movierec.gateway.v1 import movie_service_pb2 as gateway
from movierec.ranking.v1 import ranking_service_pb2 as ranking_pb
from movierec.similarity.v1 import similarity_service_pb2 as similarity
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ratings import NO_TIME, RatedMovies
from serving.sources import Source
from serving.stages import ranking
from serving.stages.candidate import (
    CODEC,
    CandidateList,
    CandidateProbe,
    CandidateQuery,
    UserVector,
    encode_response,
)
from serving.stages.messages import decode_filter, decode_history, encode_filter, encode_history
from serving.stages.ranking import RankingProbe, RankingQuery, decode_request, violations
from serving.stages.stage import StageFailure

FILTERS = [
    UNRESTRICTED,
    MovieFilter(genres=("Drama", "War"), exclude_genres=("Horror",)),
    MovieFilter(min_year=1950),
    MovieFilter(min_year=1950, max_year=1959),
]


@pytest.mark.parametrize("movie_filter", FILTERS)
def test_filters(movie_filter: MovieFilter) -> None:
    assert decode_filter(encode_filter(movie_filter, pb.MovieFilter)) == movie_filter
    assert decode_filter(encode_filter(movie_filter, gateway.MovieFilter)) == movie_filter
    assert decode_filter(encode_filter(movie_filter, similarity.MovieFilter)) == movie_filter


def test_unset_filter_does_not_restrict() -> None:
    assert decode_filter(pb.CandidateQuery().filter) == UNRESTRICTED


def test_histories() -> None:
    history = RatedMovies(movie_ids=(3, 1, 2), values=(0.5, 5.0, 3.5), times=(100, 0, NO_TIME))
    assert decode_history(encode_history(history, pb.RatedMovie)) == history
    assert decode_history(encode_history(history, gateway.RatedMovie)) == history
    assert decode_history(encode_history(history, ranking_pb.RatedMovie)) == history
    assert not encode_history(history, pb.RatedMovie)[2].HasField("rate_time")


def test_unset_rating_is_a_like_and_unset_time_unknown() -> None:
    assert decode_history([ranking_pb.RatedMovie(movie_id=4)]) == RatedMovies((4,), (5.0,), (NO_TIME,))


MERGED = CandidateList(
    movie_ids=np.array([30, 10]),
    scores=np.array([0.25, 0.5], np.float32),
    user_vector=UserVector.TRAINED,
    bundle_id="b",
    fused_scores=np.array([0.5, 0.25]),
    source_ranks={Source.ALS: np.array([0, 1], np.int32), Source.TRANSITIONS: np.array([1, 0], np.int32)},
    probes=(
        CandidateProbe(20, score=0.125, rank=7, fused_score=0.0, source_ranks={Source.TRANSITIONS: 2}),
        CandidateProbe(40),
    ),
)
QUERY = CandidateQuery(user_id=1, limit=2, probe_movie_ids=(20, 40))


def read(
    message: pb.GenerateCandidatesResponse, query: CandidateQuery = QUERY
) -> CandidateList | StageFailure:
    (found,) = CODEC.decode_response(message, [query])
    return found


def test_a_list_comes_out_as_it_went_in() -> None:
    found = read(encode_response([MERGED], "b"))
    assert isinstance(found, CandidateList)
    assert found.movie_ids.tolist() == [30, 10]
    assert found.scores.tolist() == [0.25, 0.5]
    assert found.order_scores.tolist() == found.fused_scores.tolist() == [0.5, 0.25]
    assert {source: ranks.tolist() for source, ranks in found.source_ranks.items()} == {
        "als": [0, 1],
        "transitions": [1, 0],
    }
    assert found.probes == MERGED.probes
    assert not found.short_history


def test_where_als_is_the_only_source_nothing_more_is_sent() -> None:
    alone = replace(MERGED, scores=np.array([0.5, 0.25], np.float32), source_ranks={}, probes=())
    message = encode_response([alone], "b")
    assert not message.lists[0].fused_scores
    found = read(message, replace(QUERY, probe_movie_ids=()))
    assert isinstance(found, CandidateList)
    assert found.order_scores.tolist() == found.scores.tolist() == [0.5, 0.25]
    assert found.source_ranks == {}


def test_that_a_history_is_short_is_sent() -> None:
    short = CandidateList(np.empty(0, np.int64), np.empty(0), UserVector.TRAINED, "b", short_history=True)
    found = read(encode_response([short], "b"), replace(QUERY, probe_movie_ids=()))
    assert isinstance(found, CandidateList)
    assert found.short_history


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"als_ranks": [1]}, "one rank per movie of each source"),
        ({"transitions_ranks": [-1, 0]}, "ranks from 1, or 0"),
        ({"fused_scores": []}, "fused scores with ranks"),
        ({"als_ranks": [], "transitions_ranks": []}, "the best first"),
        ({"fused_scores": [0.25, 0.5]}, "the best first"),
        ({"fused_scores": [float("nan"), 0.5]}, "finite fused scores"),
        ({"short_history": True}, "no movies of a short history"),
    ],
)
def test_an_unusable_list_is_refused(fields: dict[str, Any], expected: str) -> None:
    message = encode_response([MERGED], "b")
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(message.lists[0], name)[:]
            getattr(message.lists[0], name).extend(value)
        else:
            setattr(message.lists[0], name, value)
    found = read(message)
    assert isinstance(found, StageFailure)
    assert expected in found.detail


def test_ranking_reads_the_ranks_that_its_features_need() -> None:
    query = RankingQuery(
        user_id=1,
        movie_ids=np.array([30, 10]),
        retrieval_scores=np.array([0.25, 0.5], np.float32),
        source_ranks=MERGED.source_ranks,
        probes=(RankingProbe(20, 0.125, 7, {Source.ALS: 7, Source.POPULARITY: 2}),),
    )
    message = ranking.CODEC.encode_request([query])
    assert isinstance(message, ranking_pb.RankMoviesRequest)
    (found,) = decode_request(message)
    assert {source: ranks.tolist() for source, ranks in found.source_ranks.items()} == {"transitions": [1, 0]}
    assert found.probes == (RankingProbe(20, 0.125, 7, {Source.POPULARITY: 2}),)


@pytest.mark.parametrize("field", ["transitions_ranks", "popularity_ranks"])
def test_ranks_are_one_per_movie_or_none(field: str) -> None:
    for n_ranks, expected in ((0, []), (1, [f"queries[0].{field}"]), (2, [])):
        query = ranking_pb.RankingQuery(movie_ids=[1, 2], retrieval_scores=[1, 2])
        getattr(query, field).extend([1] * n_ranks)
        broken = violations(ranking_pb.RankMoviesRequest(queries=[query]))
        assert [violation.field for violation in broken] == expected
