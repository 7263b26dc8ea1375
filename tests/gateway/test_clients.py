"""The ports over a real channel: what is sent, what is read, and that nothing unusable gets past."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode, aio
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.metrics import GatewayMetrics
from gateway.stages.client import StageClient
from movierec.candidate.v1 import candidate_service_pb2 as candidate
from movierec.ranking.v1 import ranking_service_pb2 as ranking
from movierec.similarity.v1 import similarity_service_pb2 as similarity
from serving.errors import (
    DeadlineError,
    FailedPreconditionError,
    NotFoundError,
    OverloadedError,
    Reason,
    ServiceError,
    UnavailableError,
)
from serving.explanations import Contribution
from serving.filters import MovieFilter
from serving.logs import CALL_FIELDS
from serving.ratings import NO_TIME, RatedMovies
from serving.rpc.channels import open_channel
from serving.stages import candidate as candidate_stage
from serving.stages import ranking as ranking_stage
from serving.stages import similarity as similarity_stage
from serving.stages.candidate import CandidateList, CandidateProbe, CandidateQuery, UserVector
from serving.stages.ranking import RankedList, RankedProbe, RankingProbe, RankingQuery
from serving.stages.similarity import SimilarityMethod, SimilarQuery
from serving.stages.stage import (
    FallbackReason,
    InvalidQueryError,
    StageError,
    StageFailure,
    StageName,
    unwrap,
)
from tests.gateway.scripted_stage import ScriptedStage, failing_with, saying, scripted_stage

SECONDS = 20.0  # ample: no test is decided by it
NAN, INF = math.nan, math.inf

CANDIDATES = CandidateQuery(
    user_id=7,
    limit=3,
    movie_filter=MovieFilter(genres=("Drama",), min_year=1990),
    exclude_movie_ids=np.array([8, 9]),
    include_seen=True,
    history=RatedMovies((1, 2), (4.5, 5.0), (1_600_000_000, NO_TIME)),
)
RANKING = RankingQuery(
    user_id=7,
    movie_ids=np.array([30, 10, 20]),
    retrieval_scores=np.array([0.75, 0.5, 0.25], np.float32),
    bundle_id="b",
    limit=2,
    explain_features=2,
    diversity=0.0,
    history=RatedMovies((1,), (0.5,), (NO_TIME,)),
)
PROBED_CANDIDATES = replace(CANDIDATES, probe_movie_ids=(20, 99), because_of=2)
PROBED_RANKING = replace(RANKING, explain_features=0, probes=(RankingProbe(99, 0.125, 4),))
SIMILAR = SimilarQuery(movie_id=5, limit=3, exclude_movie_ids=np.array([8]))


class Stages:
    """The three clients before one scripted stage."""

    def __init__(self, stage: ScriptedStage, channel: aio.Channel) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        metrics = GatewayMetrics.create(self.registry)
        self.candidate = StageClient(candidate_stage.CODEC, channel, metrics)
        self.ranking = StageClient(ranking_stage.CODEC, channel, metrics)
        self.similarity = StageClient(similarity_stage.CODEC, channel, metrics)

    async def ask(self, stage: StageName, *, seconds: float = SECONDS) -> Any:
        """The answer to the query above."""
        clients: dict[StageName, tuple[StageClient[Any, Any], Any]] = {
            StageName.CANDIDATE: (self.candidate, CANDIDATES),
            StageName.RANKING: (self.ranking, RANKING),
            StageName.SIMILARITY: (self.similarity, SIMILAR),
        }
        client, query = clients[stage]
        (answer,) = await client.call([query], seconds=seconds)
        return unwrap(answer)

    async def failure(self, stage: StageName, *, seconds: float = SECONDS) -> FallbackReason:
        """Why there is no usable answer."""
        with pytest.raises(StageError) as caught:
            await self.ask(stage, seconds=seconds)
        assert caught.value.failure.stage is stage
        return caught.value.failure.reason

    def calls(self, stage: StageName, outcome: str) -> float:
        """How many calls ended so."""
        labels = {"stage": stage, "outcome": outcome}
        return self.registry.get_sample_value("movierec_stage_seconds_count", labels) or 0.0


@pytest.fixture
async def stages() -> AsyncIterator[Stages]:
    async with scripted_stage() as (stage, channel):
        yield Stages(stage, channel)


def candidates_of(
    ids: list[int], scores: list[float], *, vector: int = 1, lists: int = 1, bundle_id: str = "b"
) -> candidate.GenerateCandidatesResponse:
    one = candidate.CandidateList(movie_ids=ids, scores=scores)
    one.user_vector = vector  # type: ignore[assignment]  # proto3 enums hold any number
    return candidate.GenerateCandidatesResponse(lists=[one] * lists, bundle_id=bundle_id)


def ranked(  # every field of the answer is a way to be wrong
    ids: list[int],
    scores: list[float],
    *,
    explanations: int | None = None,
    contribution: float = 0.5,
    value: float = 1.0,
    contributions: int = 1,
    unknown: tuple[int, ...] = (),
    base_value: float = -1.0,
    bundle_id: str = "b",
) -> ranking.RankMoviesResponse:
    one = ranking.FeatureContribution(
        feature="year", value=value, contribution=contribution, phrase="released in 1", movie_id=20
    )
    listed = ranking.RankedList(
        movie_ids=ids,
        scores=scores,
        explanations=[ranking.Explanation(contributions=[one] * contributions)]
        * (len(ids) if explanations is None else explanations),
        unknown_movie_ids=unknown,
    )
    return ranking.RankMoviesResponse(lists=[listed], bundle_id=bundle_id, base_value=base_value)


def neighbours_of(
    ids: list[int], scores: list[float], *, method: int = 1, bundle_id: str = "b"
) -> similarity.FindSimilarMoviesResponse:
    answer = similarity.FindSimilarMoviesResponse(movie_ids=ids, scores=scores, bundle_id=bundle_id)
    answer.method = method  # type: ignore[assignment]  # proto3 enums hold any number
    return answer


# What is sent and read.


async def test_candidates(stages: Stages) -> None:
    stages.stage.behave = saying(candidates_of([30, 10, 20], [0.75, 0.5, 0.5], vector=2))
    found = await stages.ask(StageName.CANDIDATE)
    assert found.bundle_id == "b"
    assert found.movie_ids.tolist() == [30, 10, 20]
    assert found.scores.tolist() == [0.75, 0.5, 0.5]
    assert found.user_vector is UserVector.FOLDED_IN
    sent = candidate.GenerateCandidatesRequest.FromString(stages.stage.requests[0])
    (query,) = sent.queries
    assert (query.user_id, query.limit, query.include_seen) == (7, 3, True)
    assert query.filter == candidate.MovieFilter(genres=["Drama"], min_year=1990)
    assert list(query.exclude_movie_ids) == [8, 9]
    first, second = query.history
    assert (first.movie_id, first.rating, first.rate_time.seconds) == (1, 4.5, 1_600_000_000)
    assert (second.movie_id, second.rating, second.HasField("rate_time")) == (2, 5.0, False)
    assert stages.calls(StageName.CANDIDATE, "OK") == 1


async def test_ranking(stages: Stages) -> None:
    stages.stage.behave = saying(ranked([10, 30], [2.0, 1.0], unknown=(20,)))
    order = await stages.ask(StageName.RANKING)
    assert (order.bundle_id, order.base_value) == ("b", -1.0)
    assert order.movie_ids.tolist() == [10, 30]
    assert order.scores.tolist() == [2.0, 1.0]
    assert order.explanations == ((Contribution("year", 1.0, 0.5, "released in 1", 20),),) * 2
    assert order.unknown_movie_ids.tolist() == [20]
    sent = ranking.RankMoviesRequest.FromString(stages.stage.requests[0])
    (query,) = sent.queries
    assert sent.bundle_id == "b"
    assert list(query.movie_ids) == [30, 10, 20]
    assert list(query.retrieval_scores) == [0.75, 0.5, 0.25]
    assert (query.user_id, query.limit, query.explain_features, query.diversity) == (7, 2, 2, 0.0)
    assert query.history[0].rating == 0.5


@pytest.mark.parametrize("value", [None, 0.0])
async def test_a_missing_feature_value_is_none_and_zero_is_a_value(
    stages: Stages, value: float | None
) -> None:
    answer = ranked([10], [2.0])
    answer.lists[0].explanations[0].contributions[0].ClearField("value")
    if value is not None:
        answer.lists[0].explanations[0].contributions[0].value = value
    stages.stage.behave = saying(answer)
    assert (await stages.ask(StageName.RANKING)).explanations[0][0].value == value


async def test_a_diverse_order_need_not_descend(stages: Stages) -> None:
    stages.stage.behave = saying(ranked([10, 30], [1.0, 2.0]))
    (answer,) = await stages.ranking.call([replace(RANKING, diversity=0.5)], seconds=SECONDS)
    assert unwrap(answer).scores.tolist() == [1.0, 2.0]


async def test_neighbours(stages: Stages) -> None:
    stages.stage.behave = saying(neighbours_of([3, 4], [0.75, 0.5], method=2))
    answer = await stages.ask(StageName.SIMILARITY)
    assert answer.movie_ids.tolist() == [3, 4]
    assert answer.scores.tolist() == [0.75, 0.5]
    assert (answer.method, answer.bundle_id) == (SimilarityMethod.GENRE_JACCARD, "b")
    sent = similarity.FindSimilarMoviesRequest.FromString(stages.stage.requests[0])
    assert (sent.movie_id, sent.limit, list(sent.exclude_movie_ids)) == (5, 3, [8])
    assert not sent.HasField("filter")


def probed_candidates(**fields: Any) -> candidate.GenerateCandidatesResponse:
    """Two candidates of two reasons each, and two probes; `fields` replace those of the list."""
    listed: dict[str, Any] = {
        "movie_ids": [30, 10],
        "scores": [0.75, 0.5],
        "user_vector": candidate.USER_VECTOR_TRAINED,
        "because_of_movie_ids": [1, 2, 3, 0],
        "because_of_weights": [0.5, 0.25, 0.5, 0],
        "probes": [
            candidate.CandidateProbe(movie_id=20, seen=True, filtered_out=True, score=0.25, rank=4),
            candidate.CandidateProbe(movie_id=99, excluded=True),
        ],
    }
    one = candidate.CandidateList(**(listed | fields))
    return candidate.GenerateCandidatesResponse(lists=[one], bundle_id="b")


async def probed_by_retrieval(stages: Stages) -> CandidateList:
    (found,) = await stages.candidate.call([PROBED_CANDIDATES], seconds=SECONDS)
    return unwrap(found)


async def test_probes_and_reasons_of_candidates(stages: Stages) -> None:
    stages.stage.behave = saying(probed_candidates())
    found = await probed_by_retrieval(stages)
    assert found.because_of.movie_ids.tolist() == [[1, 2], [3, 0]]
    assert found.because_of.weights.tolist() == [[0.5, 0.25], [0.5, 0]]
    assert found.probes == (
        CandidateProbe(20, seen=True, excluded=False, filtered_out=True, score=0.25, rank=4),
        CandidateProbe(99, seen=False, excluded=True, filtered_out=False, score=None, rank=None),
    )
    sent = candidate.GenerateCandidatesRequest.FromString(stages.stage.requests[0]).queries[0]
    assert (list(sent.probe_movie_ids), sent.because_of) == ([20, 99], 2)


async def test_a_user_without_a_vector_has_neither_movies_nor_probes(stages: Stages) -> None:
    stages.stage.behave = saying(candidates_of([], [], vector=3))
    found = await probed_by_retrieval(stages)
    assert (found.user_vector, found.movie_ids.size) == (UserVector.NONE, 0)
    assert (found.probes, found.because_of.movie_ids.size) == ((), 0)


def probed_ranking(*, last: int = 1, **fields: Any) -> ranking.RankMoviesResponse:
    """One movie and one probe; `fields` replace those of the probe."""
    explanation = ranking.Explanation(contributions=[ranking.FeatureContribution(feature="year")])
    probe: dict[str, Any] = {"movie_id": 99, "score": 0.5, "rank": 3, "explanation": explanation}
    listed = ranking.RankedList(
        movie_ids=[10], scores=[2.0], probes=[ranking.RankedProbe(**(probe | fields))]
    )
    if last:
        listed.last_explanation.CopyFrom(explanation)
    return ranking.RankMoviesResponse(lists=[listed], bundle_id="b")


async def probed_by_ranking(stages: Stages) -> RankedList:
    (found,) = await stages.ranking.call([PROBED_RANKING], seconds=SECONDS)
    return unwrap(found)


async def test_probes_of_ranking(stages: Stages) -> None:
    stages.stage.behave = saying(probed_ranking())
    found = await probed_by_ranking(stages)
    year = Contribution("year", None, 0.0, "")
    assert found.probes == (RankedProbe(99, 0.5, 3, (year,)),)
    assert found.last_explanation == (year,)
    (sent,) = ranking.RankMoviesRequest.FromString(stages.stage.requests[0]).queries[0].probes
    assert (sent.movie_id, sent.retrieval_score, sent.retrieval_rank) == (99, 0.125, 4)


PROBE = candidate.CandidateProbe
BESIDE: dict[str, dict[str, Any]] = {
    "a reason too few": {"because_of_movie_ids": [1, 2, 3]},
    "a weight too many": {"because_of_weights": [0.5] * 5},
    "no reasons": {"because_of_movie_ids": [], "because_of_weights": []},
    "weight NaN": {"because_of_weights": [0.5, NAN, 0.5, 0.25]},
    "no probes": {"probes": []},
    "a probe that was not asked for": {"probes": [PROBE(movie_id=20), PROBE(movie_id=98)]},
    "probes out of order": {"probes": [PROBE(movie_id=99), PROBE(movie_id=20)]},
    "a score without a rank": {"probes": [PROBE(movie_id=20, score=0.5), PROBE(movie_id=99)]},
    "a rank of 0": {"probes": [PROBE(movie_id=20, score=0.5, rank=0), PROBE(movie_id=99)]},
    "score infinite": {"probes": [PROBE(movie_id=20, score=INF, rank=1), PROBE(movie_id=99)]},
}
RANKED: dict[str, dict[str, Any]] = {
    "a probe that was not sent": {"movie_id": 98},
    "score NaN": {"score": NAN},
    "a rank of 0 when ranked": {"rank": 0},
    "contribution NaN": {
        "explanation": ranking.Explanation(contributions=[ranking.FeatureContribution(contribution=NAN)])
    },
    "no explanation of the last movie": {"last": 0},
}


@pytest.mark.row(17)
@pytest.mark.parametrize(
    ("answer", "ask"),
    [
        *(
            pytest.param(probed_candidates(**one), probed_by_retrieval, id=name)
            for name, one in BESIDE.items()
        ),
        *(pytest.param(probed_ranking(**one), probed_by_ranking, id=name) for name, one in RANKED.items()),
    ],
)
async def test_rubbish_beside_lists(stages: Stages, answer: Any, ask: Any) -> None:
    stages.stage.behave = saying(answer)
    with pytest.raises(StageError) as caught:
        await ask(stages)
    assert caught.value.failure.reason == "INVALID_RESPONSE"


async def test_what_was_not_asked_for_is_rubbish_too(stages: Stages) -> None:
    stages.stage.behave = saying(probed_candidates())
    assert await stages.failure(StageName.CANDIDATE) == "INVALID_RESPONSE"
    stages.stage.behave = saying(probed_ranking(movie_id=10))
    assert await stages.failure(StageName.RANKING) == "INVALID_RESPONSE"


async def test_a_request_id_travels_on(stages: Stages) -> None:
    stages.stage.behave = saying(candidates_of([], [], vector=3))
    CALL_FIELDS.set({"request_id": "request-1"})
    await stages.ask(StageName.CANDIDATE)
    assert stages.stage.metadata["x-request-id"] == "request-1"


# Statuses.

CODES = {
    StatusCode.CANCELLED: "DEPENDENCY_UNAVAILABLE",
    StatusCode.UNAVAILABLE: "DEPENDENCY_UNAVAILABLE",
    StatusCode.DEADLINE_EXCEEDED: "DEPENDENCY_TIMEOUT",
    StatusCode.RESOURCE_EXHAUSTED: "DEPENDENCY_OVERLOADED",
}


@pytest.mark.row(3)
@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_every_code(stages: Stages, code: StatusCode) -> None:
    stages.stage.behave = failing_with(code)
    with capture_logs() as lines, pytest.raises(StageError) as caught:
        await stages.ask(StageName.RANKING)
    reason = caught.value.failure.reason
    assert reason == CODES.get(code, "DEPENDENCY_UNAVAILABLE")
    assert isinstance(caught.value, InvalidQueryError) == (code is StatusCode.INVALID_ARGUMENT)
    defect = code not in CODES
    assert stages.calls(StageName.RANKING, "DEFECT" if defect else reason) == 1
    assert [line["event"] for line in lines] == ["defect"] * defect


@pytest.mark.parametrize(
    ("stage", "error", "reason"),
    [
        (StageName.CANDIDATE, UnavailableError("x", reason=Reason.MODEL_UNAVAILABLE), "MODEL_UNAVAILABLE"),
        (StageName.RANKING, FailedPreconditionError("x", reason=Reason.BUNDLE_MISMATCH), "BUNDLE_MISMATCH"),
        (
            StageName.SIMILARITY,
            NotFoundError(
                "No such movie.", reason=Reason.UNKNOWN_MOVIE, resource_type="movie", resource_id=5
            ),
            "BUNDLE_MISMATCH",
        ),
        (StageName.CANDIDATE, OverloadedError("x", reason=Reason.OVERLOADED), "DEPENDENCY_OVERLOADED"),
        (StageName.CANDIDATE, DeadlineError("x", reason=Reason.DEADLINE_TOO_SHORT), "DEPENDENCY_TIMEOUT"),
    ],
    ids=lambda value: value.reason if isinstance(value, ServiceError) else None,
)
async def test_our_own_errors(stages: Stages, stage: StageName, error: ServiceError, reason: str) -> None:
    stages.stage.behave = failing_with(error)
    with capture_logs() as lines:
        assert await stages.failure(stage) == reason
    assert stages.calls(stage, reason) == 1
    assert not lines


async def test_a_stage_that_is_down() -> None:
    async with open_channel("127.0.0.1:1") as channel:  # nobody listens on a port of the system
        stages = Stages(ScriptedStage(), channel)
        assert await stages.failure(StageName.CANDIDATE) == "DEPENDENCY_UNAVAILABLE"


async def test_a_stage_that_does_not_answer(stages: Stages) -> None:
    stages.stage.behave = stages.stage.hang
    assert await stages.failure(StageName.RANKING, seconds=0.05) == "DEPENDENCY_TIMEOUT"
    assert stages.calls(StageName.RANKING, "DEPENDENCY_TIMEOUT") == 1


async def test_a_cancel_reaches_the_stage(stages: Stages) -> None:
    stages.stage.behave = stages.stage.hang
    task = asyncio.ensure_future(stages.ask(StageName.CANDIDATE))
    await stages.stage.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(SECONDS):
        await stages.stage.cancelled.wait()
    assert stages.calls(StageName.CANDIDATE, "CANCELLED") == 1


# Rubbish.

MANY = list(range(1, 1_000_001))

RUBBISH: dict[str, tuple[StageName, Any]] = {
    "empty bytes": (StageName.CANDIDATE, b""),
    "no message": (StageName.CANDIDATE, b"\xff\xff\xff"),
    "no bundle_id": (StageName.CANDIDATE, candidates_of([1], [0.5], bundle_id="")),
    "no list": (StageName.CANDIDATE, candidates_of([1], [0.5], lists=0)),
    "a list too many": (StageName.CANDIDATE, candidates_of([1], [0.5], lists=2)),
    "more scores than movies": (StageName.CANDIDATE, candidates_of([1], [0.5, 0.4])),
    "more movies than scores": (StageName.CANDIDATE, candidates_of([1, 2], [0.5])),
    "more movies than asked for": (StageName.CANDIDATE, candidates_of([1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1])),
    "a million movies": (StageName.CANDIDATE, candidates_of(MANY, [0.5] * len(MANY))),
    "a movie twice": (StageName.CANDIDATE, candidates_of([1, 1], [0.5, 0.4])),
    "NaN": (StageName.CANDIDATE, candidates_of([1, 2], [0.5, NAN])),
    "infinity": (StageName.CANDIDATE, candidates_of([1, 2], [INF, 0.5])),
    "the worst first": (StageName.CANDIDATE, candidates_of([1, 2], [0.4, 0.5])),
    "vector unspecified": (StageName.CANDIDATE, candidates_of([1], [0.5], vector=0)),
    "vector undefined": (StageName.CANDIDATE, candidates_of([1], [0.5], vector=99)),
    "movies without a vector": (StageName.CANDIDATE, candidates_of([1], [0.5], vector=3)),
    "ranking: empty bytes": (StageName.RANKING, b""),
    "ranking: no message": (StageName.RANKING, b"\x08"),
    "ranking: no list": (StageName.RANKING, ranking.RankMoviesResponse(bundle_id="b")),
    "ranking: unequal lengths": (StageName.RANKING, ranked([10, 20], [1.0])),
    "ranking: more than the page": (StageName.RANKING, ranked([10, 20, 30], [3.0, 2.0, 1.0])),
    "ranking: a movie twice": (StageName.RANKING, ranked([10, 10], [2.0, 1.0])),
    "ranking: a movie that was not sent": (StageName.RANKING, ranked([10, 99], [2.0, 1.0])),
    "ranking: an unknown that was not sent": (StageName.RANKING, ranked([10], [2.0], unknown=(99,))),
    "ranking: nothing ranked": (StageName.RANKING, ranked([], [])),
    "ranking: nothing known": (StageName.RANKING, ranked([], [], unknown=(10, 20, 30))),
    "ranking: NaN": (StageName.RANKING, ranked([10], [NAN])),
    "ranking: infinity": (StageName.RANKING, ranked([10], [-INF])),
    "ranking: the worst first": (StageName.RANKING, ranked([10, 20], [1.0, 2.0])),
    "ranking: base value NaN": (StageName.RANKING, ranked([10], [1.0], base_value=NAN)),
    "ranking: no explanations": (StageName.RANKING, ranked([10], [1.0], explanations=0)),
    "ranking: an explanation too many": (StageName.RANKING, ranked([10], [1.0], explanations=2)),
    "ranking: too many contributions": (StageName.RANKING, ranked([10], [1.0], contributions=3)),
    "ranking: contribution NaN": (StageName.RANKING, ranked([10], [1.0], contribution=NAN)),
    "ranking: feature value NaN": (StageName.RANKING, ranked([10], [1.0], value=NAN)),
    "similarity: empty bytes": (StageName.SIMILARITY, b""),
    "similarity: unequal lengths": (StageName.SIMILARITY, neighbours_of([1, 2], [0.5])),
    "similarity: more than asked for": (
        StageName.SIMILARITY,
        neighbours_of([1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1]),
    ),
    "similarity: a movie twice": (StageName.SIMILARITY, neighbours_of([1, 1], [0.5, 0.4])),
    "similarity: the movie itself": (StageName.SIMILARITY, neighbours_of([5], [1.0])),
    "similarity: NaN": (StageName.SIMILARITY, neighbours_of([1], [NAN])),
    "similarity: the worst first": (StageName.SIMILARITY, neighbours_of([1, 2], [0.4, 0.5])),
    "similarity: method unspecified": (StageName.SIMILARITY, neighbours_of([1], [0.5], method=0)),
    "similarity: no bundle_id": (StageName.SIMILARITY, neighbours_of([1], [0.5], bundle_id="")),
}


@pytest.mark.row(3)
@pytest.mark.parametrize(("stage", "answer"), RUBBISH.values(), ids=RUBBISH)
async def test_rubbish(stages: Stages, stage: StageName, answer: Any) -> None:
    stages.stage.behave = saying(answer)
    assert await stages.failure(stage) == "INVALID_RESPONSE"
    assert stages.calls(stage, "INVALID_RESPONSE") == 1


async def test_rubbish_for_one_user_is_none_for_the_others(stages: Stages) -> None:
    good, bad = candidates_of([3], [0.5]).lists[0], candidates_of([3, 3], [0.5, 0.5]).lists[0]
    stages.stage.behave = saying(candidate.GenerateCandidatesResponse(lists=[good, bad], bundle_id="b"))
    found, failure = await stages.candidate.call([CANDIDATES] * 2, seconds=SECONDS)
    assert len(stages.stage.requests) == 1
    assert unwrap(found).movie_ids.tolist() == [3]
    assert failure == StageFailure(
        StageName.CANDIDATE, FallbackReason.INVALID_RESPONSE, "expected unique movies"
    )
    assert stages.calls(StageName.CANDIDATE, "INVALID_RESPONSE") == 1


async def test_candidates_from_another_bundle_than_was_named(stages: Stages) -> None:
    stages.stage.behave = saying(candidates_of([1], [0.5]))
    with pytest.raises(StageError) as error:
        await stages.candidate.call([CandidateQuery(1, bundle_id="other")], seconds=SECONDS)
    assert error.value.failure.reason is FallbackReason.BUNDLE_MISMATCH
    (found,) = await stages.candidate.call([CandidateQuery(1, bundle_id="b")], seconds=SECONDS)
    assert unwrap(found).bundle_id == "b"


async def test_ranking_from_another_bundle(stages: Stages) -> None:
    stages.stage.behave = saying(ranked([10], [1.0], bundle_id="other"))
    assert await stages.failure(StageName.RANKING) == "BUNDLE_MISMATCH"
    (found,) = await stages.ranking.call([replace(RANKING, bundle_id="")], seconds=SECONDS)
    assert unwrap(found).bundle_id == "other"
