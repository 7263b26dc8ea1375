"""Lists whose candidates come from several sources, and those of users with short histories."""

from dataclasses import replace

import numpy as np
import pytest

from gateway.codec import AnswerEncoder
from gateway.fallback import FallbackPolicy
from gateway.lists.list_builder import ListAnswer
from gateway.lists.why import RetrievalStanding, Verdict, WhyAnswer
from gateway.requests import PersonalRequest, WhyRequest
from movierec.gateway.v1 import movie_service_pb2 as public
from serving.filters import MovieFilter
from serving.sources import Source
from serving.stages.candidate import CandidateList, CandidateProbe
from serving.stages.stage import StageName
from tests.gateway.small_world import World, candidates, failing, ids
from tests.gateway.test_personal import ask

MERGED = replace(
    candidates(3, 4, 5, 6),
    scores=np.array([0.5, 0.75, 0.25, 0.0], np.float32),
    fused_scores=np.array([0.04, 0.03, 0.02, 0.01]),
    source_ranks={
        Source.ALS: np.array([2, 1, 3, 0], np.int32),
        Source.POPULARITY: np.array([1, 0, 2, 3], np.int32),
    },
)
"""Four candidates in merged order; movie 6 is not offered by ALS, and movie 4 is not popular."""
SHORT = replace(candidates(), short_history=True)


async def why(world: World, movie_id: int, found: CandidateList, probe: CandidateProbe) -> WhyAnswer:
    world.candidates.answer = found
    world.candidates.probe = probe
    return await world.api.why(WhyRequest(movie_id, PersonalRequest(user_id=300, limit=2)), None)


def shown(answer: ListAnswer) -> list[tuple[str, ...]]:
    return [tuple(item.candidate_sources) for item in answer.items]


async def test_each_movie_names_what_offered_it(world: World) -> None:
    world.candidates.answer = MERGED
    answer = await ask(world, limit=5)
    assert ids(answer) == [6, 5, 4, 3, 1]
    assert shown(answer) == [("popularity",), ("als", "popularity"), ("als",), ("als", "popularity"), ()]
    message = AnswerEncoder().personal(answer)
    assert [list(movie.candidate_sources) for movie in message.movies] == list(map(list, shown(answer)))


async def test_where_als_is_the_only_source_it_offered_everything(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    assert shown(await ask(world, limit=3)) == [("als",), ("als",), ()]


async def test_ranking_is_told_the_ranks(world: World) -> None:
    world.candidates.answer = MERGED
    await ask(world, user_id=300, exclude_movie_ids=np.array([4]))
    (query,) = world.ranking.queries
    assert query.movie_ids.tolist() == [3, 5, 6]
    assert query.retrieval_scores.tolist() == [0.5, 0.25, 0.0]
    assert query.source_ranks[Source.POPULARITY].tolist() == [1, 2, 3]


async def test_without_ranking_the_order_is_the_merged_one(world: World) -> None:
    world.candidates.answer = MERGED
    world.ranking.failure = failing(StageName.RANKING)
    answer = await ask(world, limit=3)
    assert (answer.model, answer.degraded) == ("als_only", True)
    assert ids(answer) == [3, 4, 5]
    assert [item.score for item in answer.items] == [0.04, 0.03, 0.02]
    assert shown(answer) == [("als", "popularity"), ("als",), ("als", "popularity")]


async def test_why_names_the_sources(world: World) -> None:
    ranks = {Source.ALS: 3, Source.POPULARITY: 2}
    probe = CandidateProbe(5, score=0.25, rank=3, fused_score=0.02, source_ranks=ranks)
    answer = await why(world, 5, MERGED, probe)
    # The last one that ALS offers has .25: movie 6 comes from elsewhere.
    assert answer.retrieval == RetrievalStanding(0.25, 3, cut_score=0.25, source_ranks=ranks)
    message = AnswerEncoder().why(answer).retrieval
    assert [(one.source, one.rank) for one in message.sources] == [("als", 3), ("popularity", 2)]


async def test_the_gap_without_ranking_is_one_of_merged_scores(world: World) -> None:
    world.ranking.failure = failing(StageName.RANKING)
    probe = CandidateProbe(6, score=0.0, rank=9, fused_score=0.01, source_ranks={Source.POPULARITY: 3})
    answer = await why(world, 6, MERGED, probe)
    assert (answer.verdict, answer.answer.model) == (Verdict.RANKED_BELOW, "als_only")
    assert answer.score_gap == pytest.approx(0.03 - 0.01)


@pytest.mark.parametrize("policy", FallbackPolicy)
@pytest.mark.parametrize("movie_filter", [MovieFilter(), MovieFilter(genres=("comedy",))])
async def test_a_short_history_gets_what_is_popular(
    world: World, policy: FallbackPolicy, movie_filter: MovieFilter
) -> None:
    world.candidates.answer = SHORT
    answer = await ask(world, limit=2, fallback_policy=policy, movie_filter=movie_filter)
    assert ids(answer) == [1, 2]
    assert (answer.model, answer.reason, answer.degraded) == ("popularity_fallback", "SHORT_HISTORY", False)
    assert AnswerEncoder().personal(answer).fallback_reason == public.FALLBACK_REASON_SHORT_HISTORY
    assert world.ranking.queries == []


async def test_why_says_that_a_history_is_short(world: World) -> None:
    ranks = {Source.ALS: 1, Source.POPULARITY: 2}
    probe = CandidateProbe(6, score=0.5, rank=1, fused_score=0.03, source_ranks=ranks)
    answer = await why(world, 6, SHORT, probe)
    assert answer.verdict is Verdict.SHORT_HISTORY
    message = AnswerEncoder().why(answer)
    assert message.verdict == public.VERDICT_SHORT_HISTORY
    assert [(one.source, one.rank) for one in message.retrieval.sources] == [("als", 1), ("popularity", 2)]
