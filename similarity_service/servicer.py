"""The similarity service on the wire: decodes, delegates, encodes."""

from typing import Any, Final

import numpy as np
from grpc import aio
from typing_extensions import override

from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.bundle.holder import BundleHolder
from serving.rpc.checks import (
    MAX_EXCLUDED,
    MAX_LIMIT,
    Violations,
    check_filter,
    check_movie_ids,
    check_range,
)
from serving.rpc.messages import decode_filter
from similarity_service.neighbours import SimilarityIndex, SimilarityMethod

SERVICE_NAME: Final = "movierec.similarity.v1.SimilarityService"
"""For health checks."""

_METHODS: Final = {
    SimilarityMethod.ALS_COSINE: pb.SIMILARITY_METHOD_ALS_COSINE,
    SimilarityMethod.GENRE_JACCARD: pb.SIMILARITY_METHOD_GENRE_JACCARD,
}


class SimilarityServicer(pb_grpc.SimilarityServiceServicer):
    """Answers from the bundle that is held.

    Args:
        bundles: the bundle.
    """

    def __init__(self, bundles: BundleHolder[SimilarityIndex]) -> None:
        self._bundles = bundles

    @override
    async def FindSimilarMovies(
        self, request: pb.FindSimilarMoviesRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.FindSimilarMoviesResponse:
        check(request)
        index = self._bundles.get()
        found = index.similar(
            request.movie_id,
            limit=request.limit,
            movie_filter=decode_filter(request.filter),
            excluded=np.array(request.exclude_movie_ids, dtype=np.int64),
        )
        response = pb.FindSimilarMoviesResponse(method=_METHODS[found.method], bundle_id=index.bundle_id)
        response.movie_ids.extend(found.movie_ids.tolist())
        response.scores.extend(found.scores.tolist())
        return response


def check(request: pb.FindSimilarMoviesRequest) -> None:
    """Checks every rule of a request.

    Raises:
        InvalidArgumentError: rules are broken; it names all of them.
    """
    violations = Violations()
    violations.require(request.movie_id >= 1, "movie_id", "must be at least 1")
    check_range(violations, "limit", request.limit, low=1, high=MAX_LIMIT)
    check_filter(violations, "filter", request.filter)
    check_movie_ids(violations, "exclude_movie_ids", request.exclude_movie_ids, most=MAX_EXCLUDED)
    violations.raise_any()
