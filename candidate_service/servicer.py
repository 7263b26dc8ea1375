"""The candidate service on the wire: checks, decodes, delegates, encodes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from grpc import aio
from typing_extensions import override

from candidate_service.retrieval import Retriever
from movierec.candidate.v1 import candidate_service_pb2 as pb
from movierec.candidate.v1 import candidate_service_pb2_grpc as pb_grpc
from serving.bundle.holder import BundleHolder
from serving.checks import STAGE
from serving.limiter import RATINGS_PER_USER, CallCost
from serving.limits import STAGE_LIMITS
from serving.stages.candidate import decode_request, encode_response

_MAX_QUERIES: Final = int(STAGE_LIMITS["queries"].high)


def call_costs(bundles: BundleHolder[Retriever]) -> Mapping[str, CallCost]:
    """What calls ask of the limiter, by method: a vector or reasons may have to be solved from many ratings.

    Args:
        bundles: the bundle, which knows how many a user has already.
    """

    def users(request: pb.GenerateCandidatesRequest) -> int:
        current = bundles.get()
        return len(request.queries) + sum(
            current.ratings_to_solve(query.user_id, len(query.history), query.because_of) // RATINGS_PER_USER
            for query in request.queries[:_MAX_QUERIES]  # one with more is refused right after
        )

    return MappingProxyType({"GenerateCandidates": CallCost(users=users)})


class CandidateServicer(pb_grpc.CandidateServiceServicer):
    """Answers from the bundle that a request names, if it is held.

    Args:
        bundles: the current one, and the one before where it is kept.
    """

    def __init__(self, bundles: BundleHolder[Retriever]) -> None:
        self._bundles = bundles

    @override
    async def GenerateCandidates(
        self, request: pb.GenerateCandidatesRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GenerateCandidatesResponse:
        STAGE.require(request)
        retriever = self._bundles.named(request.bundle_id)
        return encode_response(retriever.retrieve(decode_request(request)), retriever.bundle_id)
