"""Messages of all packages, there and back."""

import pytest

from movierec.candidate.v1 import candidate_service_pb2 as candidate
from movierec.gateway.v1 import movie_service_pb2 as gateway
from movierec.ranking.v1 import ranking_service_pb2 as ranking
from movierec.similarity.v1 import similarity_service_pb2 as similarity
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ratings import NO_TIME, RatedMovies
from serving.stages.messages import decode_filter, decode_history, encode_filter, encode_history

FILTERS = [
    UNRESTRICTED,
    MovieFilter(genres=("Drama", "War"), exclude_genres=("Horror",)),
    MovieFilter(min_year=1950),
    MovieFilter(min_year=1950, max_year=1959),
]


@pytest.mark.parametrize("movie_filter", FILTERS)
def test_filters(movie_filter: MovieFilter) -> None:
    assert decode_filter(encode_filter(movie_filter, candidate.MovieFilter)) == movie_filter
    assert decode_filter(encode_filter(movie_filter, gateway.MovieFilter)) == movie_filter
    assert decode_filter(encode_filter(movie_filter, similarity.MovieFilter)) == movie_filter


def test_unset_filter_does_not_restrict() -> None:
    assert decode_filter(candidate.CandidateQuery().filter) == UNRESTRICTED


def test_histories() -> None:
    history = RatedMovies(movie_ids=(3, 1, 2), values=(0.5, 5.0, 3.5), times=(100, 0, NO_TIME))
    assert decode_history(encode_history(history, candidate.RatedMovie)) == history
    assert decode_history(encode_history(history, gateway.RatedMovie)) == history
    assert decode_history(encode_history(history, ranking.RatedMovie)) == history
    assert not encode_history(history, candidate.RatedMovie)[2].HasField("rate_time")


def test_unset_rating_is_a_like_and_unset_time_unknown() -> None:
    assert decode_history([ranking.RatedMovie(movie_id=4)]) == RatedMovies((4,), (5.0,), (NO_TIME,))
