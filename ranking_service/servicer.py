"""The ranking service on the wire: checks, decodes, delegates, encodes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from grpc import aio
from typing_extensions import override

from movierec.ranking.v1 import ranking_service_pb2 as pb
from movierec.ranking.v1 import ranking_service_pb2_grpc as pb_grpc
from ranking_service.metrics import RankingMetrics
from ranking_service.ranking import Ranker
from serving.bundle.holder import BundleHolder
from serving.checks import STAGE, require_none
from serving.limiter import CallCost, users_with_reasons
from serving.stages.ranking import contributions, decode_request, encode_response, violations

CALL_COSTS: Final[Mapping[str, CallCost]] = MappingProxyType(
    {
        "RankMovies": CallCost(
            users=lambda request: users_with_reasons(len(request.queries), contributions(request))
        )
    }
)
"""What calls ask of the limiter."""


class RankingServicer(pb_grpc.RankingServiceServicer):
    """Answers from the bundle that a request names, if it is held.

    Args:
        bundles: the current one and the one before.
        metrics: where to count what was missing.
    """

    def __init__(self, bundles: BundleHolder[Ranker], metrics: RankingMetrics) -> None:
        self._bundles = bundles
        self._metrics = metrics

    @override
    async def RankMovies(
        self, request: pb.RankMoviesRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RankMoviesResponse:
        require_none(STAGE.violations(request) or violations(request))
        ranker = self._bundles.named(request.bundle_id)
        ranking = ranker.rank(decode_request(request))
        self._metrics.count(ranking)
        return encode_response(ranking.lists, ranker.bundle_id, ranker.base_value)
