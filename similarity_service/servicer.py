"""The similarity service on the wire: checks, decodes, delegates, encodes."""

from typing import Any

from grpc import aio
from typing_extensions import override

from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.bundle.holder import BundleHolder
from serving.checks import STAGE
from serving.stages.similarity import decode_request, encode_response
from similarity_service.neighbours import SimilarityIndex


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
        STAGE.require(request)
        return encode_response(self._bundles.get().similar(decode_request(request)))
