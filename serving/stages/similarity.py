"""The index of neighbours: what the gateway asks the similarity service, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from movierec.similarity.v1 import similarity_service_pb2 as pb
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ids import NO_IDS, Ids
from serving.stages.messages import decode_filter, encode_filter
from serving.stages.reading import read_scored, require
from serving.stages.stage import StageCodec, StageFailure, StageName

SERVICE: Final = pb.DESCRIPTOR.services_by_name["SimilarityService"]


class SimilarityMethod(StrEnum):
    """How similarity was measured."""

    ALS_COSINE = auto()
    """Cosine of ALS item factors, -1 to 1."""
    GENRE_JACCARD = auto()
    """Jaccard index of genres, 0 to 1: ALS has no factors for the movie."""


@dataclass(frozen=True, eq=False)
class SimilarQuery:
    """Which neighbours to find."""

    movie_id: int
    limit: int
    """Movies to return, at least 1; fewer come back when fewer are alike."""
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_movie_ids: Ids = field(default_factory=lambda: NO_IDS)
    """Movies to leave out; unknown ones are ignored."""


@dataclass(frozen=True)
class SimilarMovies:
    """Neighbours of one movie, nearest first, without the movie itself; arrays of one length, ids unique."""

    movie_ids: Ids
    scores: npt.NDArray[np.floating]
    """Finite, descending."""
    method: SimilarityMethod
    bundle_id: str


_METHODS: Final[Mapping[SimilarityMethod, "pb.SimilarityMethod.ValueType"]] = MappingProxyType(
    {method: pb.SimilarityMethod.Value(f"SIMILARITY_METHOD_{method.name}") for method in SimilarityMethod}
)
_METHODS_READ: Final = MappingProxyType({number: method for method, number in _METHODS.items()})


def decode_request(request: pb.FindSimilarMoviesRequest) -> SimilarQuery:
    """The query of a checked request."""
    return SimilarQuery(
        movie_id=request.movie_id,
        limit=request.limit,
        movie_filter=decode_filter(request.filter),
        exclude_movie_ids=np.asarray(request.exclude_movie_ids, dtype=np.int64),
    )


def encode_response(neighbours: SimilarMovies) -> pb.FindSimilarMoviesResponse:
    """The answer to a request."""
    response = pb.FindSimilarMoviesResponse(
        method=_METHODS[neighbours.method], bundle_id=neighbours.bundle_id
    )
    response.movie_ids.extend(neighbours.movie_ids.tolist())
    response.scores.extend(neighbours.scores.tolist())
    return response


def _encode_request(queries: Sequence[SimilarQuery]) -> pb.FindSimilarMoviesRequest:
    (query,) = queries
    request = pb.FindSimilarMoviesRequest(movie_id=query.movie_id, limit=query.limit)
    if query.movie_filter:
        request.filter.CopyFrom(encode_filter(query.movie_filter, pb.MovieFilter))
    request.exclude_movie_ids.extend(query.exclude_movie_ids.tolist())
    return request


def _decode_response(
    response: pb.FindSimilarMoviesResponse, queries: Sequence[SimilarQuery]
) -> list[SimilarMovies | StageFailure]:
    (query,) = queries
    require(bool(response.bundle_id), "a bundle_id")
    require(response.method in _METHODS_READ, "a known method")
    movie_ids, scores = read_scored(response.movie_ids, response.scores, query.limit)
    require(query.movie_id not in movie_ids, "neighbours other than the movie itself")
    return [SimilarMovies(movie_ids, scores, _METHODS_READ[response.method], response.bundle_id)]


CODEC: Final = StageCodec(
    name=StageName.SIMILARITY,
    method=f"/{SERVICE.full_name}/FindSimilarMovies",
    encode_request=_encode_request,
    response_class=pb.FindSimilarMoviesResponse,
    decode_response=_decode_response,
)
