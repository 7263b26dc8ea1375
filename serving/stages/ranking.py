"""Stage two, re-ordering: what the gateway asks the ranking service, and what it answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from movierec.ranking.v1 import ranking_service_pb2 as pb
from serving.errors import FieldViolation
from serving.explanations import Contribution, Explanation
from serving.ids import NO_IDS, Ids
from serving.limits import CONTRIBUTIONS_RULE, MAX_CONTRIBUTIONS, STAGE_LIMITS
from serving.ratings import RatedMovies
from serving.sources import NO_RANKS, Source, SourceRanks
from serving.stages.messages import (
    decode_history,
    decode_ranks,
    decode_source_ranks,
    encode_explanation,
    encode_history,
    encode_ranks,
    encode_source_ranks,
)
from serving.stages.reading import each, read_scored, require, require_bundle
from serving.stages.stage import StageCodec, StageFailure, StageName

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RankingService"]


@dataclass(frozen=True)
class RankingProbe:
    """A movie to score as if it stood in the list."""

    movie_id: int
    """Of one that is in the list, score and rank are those of the list."""
    retrieval_score: float
    """Finite."""
    retrieval_rank: int
    """Its place by ALS score, from 1."""
    source_ranks: Mapping[Source, int] = field(default_factory=dict)
    """Of the sources that offer it, or would."""


@dataclass(frozen=True, eq=False)
class RankingQuery:
    """What to order for one user."""

    user_id: int
    """0: only the history counts."""
    movie_ids: Ids
    """Shape (n_candidates,), unique."""
    retrieval_scores: npt.NDArray[np.floating]
    """Shape (n_candidates,), finite float32."""
    bundle_id: str = ""
    """Where the candidates came from, and the answer does too; empty: the current bundle."""
    limit: int = 0
    """Movies to return; 0: all."""
    explain_features: int = 0
    """Strongest contributions to return with each movie."""
    diversity: float = 0.0
    """0 (relevance only) to 1 (as different as possible)."""
    history: RatedMovies = field(default_factory=RatedMovies)
    probes: tuple[RankingProbe, ...] = ()
    """Movies to score beside the list; they never alter it."""
    source_ranks: SourceRanks = field(default_factory=lambda: NO_RANKS)
    """One per candidate of each source that was asked; features read those of the others than ALS."""


@dataclass(frozen=True)
class RankedProbe:
    """Where a movie stands in the order of scores, or would stand if it were in the list."""

    movie_id: int
    score: float
    """Finite."""
    rank: int
    """From 1, among all movies of the query, returned or not."""
    explanation: Explanation
    """All contributions."""


@dataclass(frozen=True)
class RankedList:
    """The order for one user, best first; arrays of one length, ids unique and of the query."""

    movie_ids: Ids
    scores: npt.NDArray[np.float64]
    """Finite; descending unless diversity was asked for, ties in ascending movie_id."""
    bundle_id: str
    base_value: float
    """What a movie's score is without any contribution."""
    explanations: tuple[Explanation, ...] = ()
    """One per movie, largest contribution first; empty unless asked for."""
    unknown_movie_ids: Ids = field(default_factory=lambda: NO_IDS)
    """Movies of the query that the bundle does not know."""
    probes: tuple[RankedProbe, ...] = ()
    """Those that can be scored, in the order of the query."""
    last_explanation: Explanation = ()
    """All contributions to the last movie returned, to hold a probe's against; only with probes."""


def contributions(request: pb.RankMoviesRequest) -> int:
    """How many contributions to the movies of its lists a call asks for at most.

    They are built while nobody else is answered. Those of probes, at most ten a query, are not among them.
    """
    most = int(STAGE_LIMITS["explain_features"].high)
    return sum(  # of a call that breaks rules, anything that is not negative
        _shown(query.limit, len(query.movie_ids)) * min(max(query.explain_features, 0), most)
        for query in request.queries[: int(STAGE_LIMITS["queries"].high)]
    )


def _shown(limit: int, candidates: int) -> int:
    """The movies that a query gets at most; a limit of 0 is all."""
    return max(min(limit or candidates, candidates), 0)


def violations(request: pb.RankMoviesRequest) -> list[FieldViolation]:
    """The rules between fields that a request breaks which keeps those of single fields."""
    broken = [
        FieldViolation(f"queries[{place}].retrieval_scores", "must be one per movie")
        for place, query in enumerate(request.queries)
        if len(query.retrieval_scores) != len(query.movie_ids)
    ]
    broken += [
        FieldViolation(f"queries[{place}].{field_name}", "must be one per movie, or none")
        for place, query in enumerate(request.queries)
        for field_name in ("transitions_ranks", "popularity_ranks")
        if len(getattr(query, field_name)) not in {0, len(query.movie_ids)}
    ]
    if contributions(request) > MAX_CONTRIBUTIONS:
        broken.append(FieldViolation("queries", CONTRIBUTIONS_RULE))
    return broken


def decode_request(request: pb.RankMoviesRequest) -> list[RankingQuery]:
    """The queries of a checked request."""
    return [
        RankingQuery(
            user_id=query.user_id,
            movie_ids=np.asarray(query.movie_ids, dtype=np.int64),
            retrieval_scores=np.asarray(query.retrieval_scores, dtype=np.float32),
            bundle_id=request.bundle_id,
            limit=query.limit,
            explain_features=query.explain_features,
            diversity=query.diversity,
            history=decode_history(query.history),
            probes=tuple(
                RankingProbe(probe.movie_id, probe.retrieval_score, probe.retrieval_rank, decode_ranks(probe))
                for probe in query.probes
            ),
            source_ranks=decode_source_ranks(query),
        )
        for query in request.queries
    ]


def encode_response(lists: Sequence[RankedList], bundle_id: str, base_value: float) -> pb.RankMoviesResponse:
    """The answers to a request, in order."""
    response = pb.RankMoviesResponse(bundle_id=bundle_id, base_value=base_value)
    for ranked in lists:
        message = response.lists.add()
        message.movie_ids.extend(ranked.movie_ids.tolist())
        message.scores.extend(ranked.scores.tolist())
        message.unknown_movie_ids.extend(ranked.unknown_movie_ids.tolist())
        for explanation in ranked.explanations:
            encode_explanation(explanation, message.explanations.add().contributions)
        for probe in ranked.probes:
            probed = message.probes.add(movie_id=probe.movie_id, score=probe.score, rank=probe.rank)
            encode_explanation(probe.explanation, probed.explanation.contributions)
        encode_explanation(ranked.last_explanation, message.last_explanation.contributions)
    return response


def _encode_request(queries: Sequence[RankingQuery]) -> pb.RankMoviesRequest:
    request = pb.RankMoviesRequest(bundle_id=queries[0].bundle_id)
    for query in queries:
        message = request.queries.add(
            user_id=query.user_id,
            limit=query.limit,
            explain_features=query.explain_features,
            diversity=query.diversity,
        )
        message.movie_ids.extend(query.movie_ids.tolist())
        message.retrieval_scores.extend(query.retrieval_scores.tolist())
        message.history.extend(encode_history(query.history, pb.RatedMovie))
        encode_source_ranks(query.source_ranks, message)
        for probe in query.probes:
            probe_message = message.probes.add(
                movie_id=probe.movie_id,
                retrieval_score=probe.retrieval_score,
                retrieval_rank=probe.retrieval_rank,
            )
            encode_ranks(probe.source_ranks, probe_message)
    return request


def _decode_response(
    response: pb.RankMoviesResponse, queries: Sequence[RankingQuery]
) -> list[RankedList | StageFailure]:
    require_bundle(StageName.RANKING, response.bundle_id, queries[0].bundle_id)
    base_value = response.base_value
    require(math.isfinite(base_value), "a finite base_value")

    def read(message: pb.RankedList, query: RankingQuery) -> RankedList:
        movie_ids, scores = read_scored(
            message.movie_ids,
            message.scores,
            query.limit or query.movie_ids.size,
            descending=query.diversity == 0,
        )
        asked = set(query.movie_ids.tolist())
        require(asked.issuperset(message.movie_ids), "only movies that were sent")
        require(asked.issuperset(message.unknown_movie_ids), "only movies that were sent as unknown")
        require(movie_ids.size > 0, "at least one movie")
        explained = movie_ids.size if query.explain_features else 0
        require(len(message.explanations) == explained, "one explanation per movie, if asked for")
        probed = [probe.movie_id for probe in message.probes]
        require(len(set(probed)) == len(probed), "unique probes")
        require({probe.movie_id for probe in query.probes}.issuperset(probed), "only probes that were sent")
        last_explanation = _read_explanation(message.last_explanation)
        require(
            bool(last_explanation) == bool(query.probes), "an explanation of the last movie beside probes"
        )
        return RankedList(
            movie_ids=movie_ids,
            scores=scores,
            bundle_id=response.bundle_id,
            base_value=base_value,
            explanations=tuple(_read_explanation(e, query.explain_features) for e in message.explanations),
            unknown_movie_ids=np.asarray(message.unknown_movie_ids, dtype=np.int64)
            if message.unknown_movie_ids
            else NO_IDS,
            probes=tuple(map(_read_probe, message.probes)),
            last_explanation=last_explanation,
        )

    return each(StageName.RANKING, read, response.lists, queries)


def _read_probe(message: pb.RankedProbe) -> RankedProbe:
    require(math.isfinite(message.score), "finite scores of probes")
    require(message.rank >= 1, "ranks of probes from 1")
    return RankedProbe(message.movie_id, message.score, message.rank, _read_explanation(message.explanation))


def _read_explanation(message: pb.Explanation, most: int | None = None) -> Explanation:
    require(most is None or len(message.contributions) <= most, "no more contributions than asked for")
    explanation = []
    is_finite = True
    for c in message.contributions:
        value, contribution = c.value, c.contribution
        is_finite = is_finite and math.isfinite(value) and math.isfinite(contribution)
        known = (
            value if value or c.HasField("value") else None
        )  # to ask for presence takes as long as to read
        explanation.append(Contribution(c.feature, known, contribution, c.phrase, c.movie_id or None))
    require(is_finite, "finite contributions")
    return tuple(explanation)


CODEC: Final = StageCodec(
    name=StageName.RANKING,
    method=f"/{SERVICE.full_name}/RankMovies",
    encode_request=_encode_request,
    response_class=pb.RankMoviesResponse,
    decode_response=_decode_response,
    batch_key=lambda query: query.bundle_id,
    contributions=lambda query: _shown(query.limit, query.movie_ids.size) * query.explain_features,
)
