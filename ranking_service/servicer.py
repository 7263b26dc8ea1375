"""The ranking service on the wire: decodes, delegates, encodes."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from grpc import aio
from typing_extensions import override

from movierec.ranking.v1 import ranking_service_pb2 as pb
from movierec.ranking.v1 import ranking_service_pb2_grpc as pb_grpc
from ranking_service.metrics import RankingMetrics
from ranking_service.ranking import NO_PROBES, Probes, RankedList, Ranker, RankingQuery
from serving.bundle.holder import BundleHolder
from serving.bundle.manifest import BUNDLE_ID_PATTERN
from serving.errors import FailedPreconditionError, Reason
from serving.leaf_tables import Explanation
from serving.limiter import Load, users_with_reasons
from serving.rpc.checks import (
    MAX_CONTRIBUTIONS,
    MAX_EXPLAIN_FEATURES,
    MAX_LIMIT,
    MAX_PROBES,
    Violations,
    check_finite,
    check_history,
    check_movie_ids,
    check_query_count,
    check_range,
    check_unique,
    check_user_id,
)
from serving.rpc.messages import decode_history

SERVICE_NAME: Final = "movierec.ranking.v1.RankingService"
"""For health checks."""
LOADS: Final[Mapping[str, Load]] = MappingProxyType(
    {
        "RankMovies": Load(
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
        check(request)
        ranker = require_bundle(self._bundles, request.bundle_id)
        ranking = ranker.rank([_query(message) for message in request.queries])
        self._metrics.count(ranking)
        return pb.RankMoviesResponse(
            lists=map(_list, ranking.lists), bundle_id=ranker.bundle_id, base_value=ranker.base_value
        )


def contributions(request: pb.RankMoviesRequest) -> int:
    """How many a call asks for at the most: they are built while nobody else is answered."""
    return sum(  # of a call that breaks rules, anything
        min(query.limit or MAX_LIMIT, len(query.movie_ids)) * query.explain_features
        for query in request.queries
    )


def check(request: pb.RankMoviesRequest) -> None:
    """Checks every rule of a request.

    Raises:
        InvalidArgumentError: rules are broken; it names all of them.
    """
    violations = Violations()
    violations.require(
        not request.bundle_id or re.fullmatch(BUNDLE_ID_PATTERN, request.bundle_id) is not None,
        "bundle_id",
        "must be empty, or 1 to 64 letters, digits, '_' or '-'",
    )
    check_query_count(violations, len(request.queries))
    violations.require(
        contributions(request) <= MAX_CONTRIBUTIONS,
        "queries",
        f"must ask for at most {MAX_CONTRIBUTIONS} contributions: limit times explain_features, summed up",
    )
    for place, query in enumerate(request.queries):
        at = f"queries[{place}]"
        check_user_id(violations, f"{at}.user_id", query.user_id)
        violations.require(len(query.movie_ids) > 0, f"{at}.movie_ids", "must not be empty")
        check_movie_ids(violations, f"{at}.movie_ids", query.movie_ids, most=MAX_LIMIT)
        check_unique(violations, f"{at}.movie_ids", query.movie_ids)
        violations.require(
            len(query.retrieval_scores) == len(query.movie_ids),
            f"{at}.retrieval_scores",
            "must be one per movie",
        )
        check_finite(violations, f"{at}.retrieval_scores", query.retrieval_scores)
        check_range(violations, f"{at}.limit", query.limit, low=0, high=MAX_LIMIT)
        check_range(
            violations, f"{at}.explain_features", query.explain_features, low=0, high=MAX_EXPLAIN_FEATURES
        )
        check_range(violations, f"{at}.diversity", query.diversity, low=0, high=1)
        check_history(violations, f"{at}.history", query.history)
        _check_probes(violations, f"{at}.probes", query.probes)
    violations.raise_any()


def _check_probes(violations: Violations, field: str, probes: Sequence[pb.RankingProbe]) -> None:
    movie_ids = [probe.movie_id for probe in probes]
    check_movie_ids(violations, field, movie_ids, most=MAX_PROBES)
    check_unique(violations, field, movie_ids)
    check_finite(violations, f"{field}.retrieval_score", [probe.retrieval_score for probe in probes])
    violations.require(
        all(probe.retrieval_rank >= 1 for probe in probes), f"{field}.retrieval_rank", "must be at least 1"
    )


def require_bundle(bundles: BundleHolder[Ranker], requested: str) -> Ranker:
    """Ranking answers from the bundle that the candidates came from, or not at all.

    Args:
        bundles: those that are held.
        requested: bundle_id; empty: the current one.

    Raises:
        FailedPreconditionError: the bundle is not held.
        UnavailableError: none is.
    """
    current, *others = bundles.held()
    ranker = bundles.find(requested) if requested else current
    if ranker is None:
        held = ", ".join(one.bundle_id for one in (current, *others))
        raise FailedPreconditionError(
            f"Bundle {requested} is not held, but {held}.",
            reason=Reason.BUNDLE_MISMATCH,
            requested=requested,
            held=held,
        )
    return ranker


def _query(message: pb.RankingQuery) -> RankingQuery:
    return RankingQuery(
        user_id=message.user_id,
        movie_ids=np.array(message.movie_ids, dtype=np.int64),
        retrieval_scores=np.array(message.retrieval_scores, dtype=np.float32),
        limit=message.limit,
        explain_features=message.explain_features,
        diversity=message.diversity,
        history=decode_history(message.history),
        probes=Probes(
            movie_ids=np.array([probe.movie_id for probe in message.probes], dtype=np.int64),
            retrieval_scores=np.array([probe.retrieval_score for probe in message.probes], dtype=np.float32),
            retrieval_ranks=np.array([probe.retrieval_rank for probe in message.probes], dtype=np.int64),
        )
        if message.probes
        else NO_PROBES,
    )


def _list(ranked: RankedList) -> pb.RankedList:
    message = pb.RankedList(explanations=map(_explanation, ranked.explanations))
    message.movie_ids.extend(ranked.movie_ids.tolist())
    message.scores.extend(ranked.scores.tolist())
    message.unknown_movie_ids.extend(ranked.unknown_movie_ids.tolist())
    message.probes.extend(
        pb.RankedProbe(
            movie_id=probe.movie_id,
            score=probe.score,
            rank=probe.rank,
            explanation=_explanation(probe.explanation),
        )
        for probe in ranked.probes
    )
    if ranked.last_explanation:
        message.last_explanation.CopyFrom(_explanation(ranked.last_explanation))
    return message


def _explanation(contributions: Explanation) -> pb.Explanation:
    return pb.Explanation(
        contributions=[
            pb.FeatureContribution(feature=c.feature, value=c.value, contribution=c.contribution)
            for c in contributions
        ]
    )
