"""The candidate service on the wire: decodes, delegates, encodes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from grpc import aio
from typing_extensions import override

from candidate_service.retrieval import CandidateList, CandidateQuery, Probe, Retriever, UserVector
from movierec.candidate.v1 import candidate_service_pb2 as pb
from movierec.candidate.v1 import candidate_service_pb2_grpc as pb_grpc
from serving.bundle.holder import BundleHolder
from serving.limiter import Load
from serving.rpc.checks import (
    MAX_BECAUSE_OF,
    MAX_EXCLUDED,
    MAX_LIMIT,
    MAX_PROBES,
    Violations,
    check_filter,
    check_history,
    check_movie_ids,
    check_query_count,
    check_range,
    check_unique,
    check_user_id,
)
from serving.rpc.messages import decode_filter, decode_history

SERVICE_NAME: Final = "movierec.candidate.v1.CandidateService"
"""For health checks."""
LOADS: Final[Mapping[str, Load]] = MappingProxyType(
    {"GenerateCandidates": Load(users=lambda request: len(request.queries))}
)
"""What calls ask of the limiter."""

_USER_VECTORS: Final = {
    UserVector.TRAINED: pb.USER_VECTOR_TRAINED,
    UserVector.FOLDED_IN: pb.USER_VECTOR_FOLDED_IN,
    UserVector.NONE: pb.USER_VECTOR_NONE,
}


class CandidateServicer(pb_grpc.CandidateServiceServicer):
    """Answers from the bundle that is held.

    Args:
        bundles: the bundle.
    """

    def __init__(self, bundles: BundleHolder[Retriever]) -> None:
        self._bundles = bundles

    @override
    async def GenerateCandidates(
        self, request: pb.GenerateCandidatesRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GenerateCandidatesResponse:
        check(request)
        retriever = self._bundles.get()
        lists = retriever.retrieve([_query(message) for message in request.queries])
        return pb.GenerateCandidatesResponse(lists=map(_list, lists), bundle_id=retriever.bundle_id)


def check(request: pb.GenerateCandidatesRequest) -> None:
    """Checks every rule of a request.

    Raises:
        InvalidArgumentError: rules are broken; it names all of them.
    """
    violations = Violations()
    check_query_count(violations, len(request.queries))
    for place, query in enumerate(request.queries):
        at = f"queries[{place}]"
        check_user_id(violations, f"{at}.user_id", query.user_id)
        check_range(violations, f"{at}.limit", query.limit, low=1, high=MAX_LIMIT)
        check_filter(violations, f"{at}.filter", query.filter)
        check_movie_ids(violations, f"{at}.exclude_movie_ids", query.exclude_movie_ids, most=MAX_EXCLUDED)
        check_history(violations, f"{at}.history", query.history)
        check_movie_ids(violations, f"{at}.probe_movie_ids", query.probe_movie_ids, most=MAX_PROBES)
        check_unique(violations, f"{at}.probe_movie_ids", query.probe_movie_ids)
        check_range(violations, f"{at}.because_of", query.because_of, low=0, high=MAX_BECAUSE_OF)
    violations.raise_any()


def _query(message: pb.CandidateQuery) -> CandidateQuery:
    return CandidateQuery(
        user_id=message.user_id,
        limit=message.limit,
        movie_filter=decode_filter(message.filter),
        excluded=np.array(message.exclude_movie_ids, dtype=np.int64),
        include_seen=message.include_seen,
        history=decode_history(message.history),
        probes=np.array(message.probe_movie_ids, dtype=np.int64),
        because_of=message.because_of,
    )


def _list(candidates: CandidateList) -> pb.CandidateList:
    message = pb.CandidateList(user_vector=_USER_VECTORS[candidates.user_vector])
    message.movie_ids.extend(candidates.movie_ids.tolist())
    message.scores.extend(candidates.scores.tolist())
    message.because_of_movie_ids.extend(candidates.because_of.movie_ids.ravel().tolist())
    message.because_of_weights.extend(candidates.because_of.weights.ravel().tolist())
    message.probes.extend(map(_probe, candidates.probes))
    return message


def _probe(probe: Probe) -> pb.CandidateProbe:
    return pb.CandidateProbe(
        movie_id=probe.movie_id,
        unknown=probe.unknown,
        seen=probe.seen,
        excluded=probe.excluded,
        filtered_out=probe.filtered_out,
        score=probe.score,
        rank=probe.rank,
    )
