"""Why a movie is in a list or not: every verdict, and what is known beside it."""

from typing import Any

import numpy as np
import pytest

from gateway.lists.why import Comparison, RetrievalStanding, Verdict, WhyAnswer
from gateway.requests import PersonalRequest, WhyRequest
from serving.errors import NotFoundError, Reason
from serving.explanations import Contribution
from serving.filters import MovieFilter
from serving.sources import Source
from serving.stages.candidate import UserVector
from serving.stages.stage import FallbackReason, StageName
from tests.gateway.small_world import (
    BUNDLE,
    NO_VECTOR,
    OTHER_BUNDLE,
    POPULARITY,
    World,
    candidates,
    catalogue,
    failing,
    ids,
)

BEST, LAST = float(np.float32(0.9)), float(np.float32(0.1))
"""ALS scores of the first and of the last candidate."""
WAR = MovieFilter(genres=("War",))  # movie 5 alone


async def why(
    world: World, movie_id: int, user_id: int = 300, n_comparisons: int = 10, **fields: Any
) -> WhyAnswer:
    in_question = PersonalRequest(user_id=user_id, **fields)
    return await world.api.why(WhyRequest(movie_id, in_question, n_comparisons), None)


async def test_a_movie_of_the_list(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5, 6)  # ranking turns them around: 6, 5, 4, 3
    answer = await why(world, 5, limit=3)
    assert ids(answer.answer) == [6, 5, 4]
    assert (answer.verdict, answer.rank) == (Verdict.LISTED, 2)
    assert answer.movie_row == 5 - 1
    assert answer.retrieval is not None
    assert answer.retrieval.rank == 3
    assert answer.ranking is not None
    assert (answer.ranking.score, answer.ranking.rank, answer.ranking.base_value) == (2.0, 2, -2.0)
    assert answer.last is not None
    assert (answer.last.movie_row + 1, answer.last_rank) == (4, 3)
    assert answer.score_gap == -1.0  # it is ahead
    assert world.counted("answers", method="WhyMovie", model="two_stage") == 1
    listed = answer.answer
    assert (listed.model, listed.degraded, listed.bundle_id) == ("two_stage", False, BUNDLE)


async def test_a_candidate_that_is_ranked_too_low(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5, 6)
    answer = await why(world, 3, limit=2)
    assert (answer.verdict, answer.rank) == (Verdict.RANKED_BELOW, None)
    assert answer.retrieval == RetrievalStanding(
        score=BEST, rank=1, cut_score=LAST, source_ranks={Source.ALS: 1}
    )
    assert answer.ranking is not None
    assert (answer.ranking.score, answer.ranking.rank) == (-1.0, 4)
    assert answer.score_gap == 2.0  # the last has 1


async def test_the_largest_difference_of_contributions_comes_first(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    answer = await why(world, 3, limit=1)
    assert answer.ranking is not None
    assert answer.ranking.comparisons == (
        Comparison(
            Contribution("year", 1999.0, 2.0, "released in 1999"),
            Contribution("year", None, -0.125, "of an unknown year"),
        ),
        Comparison(
            Contribution("als_score", 0.4, 0.125, "far from {movie}", 999),
            Contribution("als_score", 0.5, 0.25, "often rated soon after {movie}", 1),
        ),
    )
    one = await why(world, 3, limit=1, n_comparisons=1)
    assert one.ranking is not None
    assert [c.of_movie.feature for c in one.ranking.comparisons] == ["year"]


async def test_a_movie_that_retrieval_left_behind(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    answer = await why(world, 6, limit=1)
    assert answer.verdict is Verdict.NOT_RETRIEVED
    assert answer.retrieval == RetrievalStanding(score=0.05, rank=3, cut_score=LAST, source_ranks={})
    assert answer.ranking is not None
    assert answer.ranking.rank == 3  # that it would have


async def test_a_movie_that_fills_a_short_list_up_is_listed(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    answer = await why(world, 1, limit=3)
    assert (answer.verdict, answer.rank) == (Verdict.LISTED, 3)
    assert answer.last is not None
    assert (answer.last.movie_row + 1, answer.last_rank) == (3, 2)  # the last of the ranker


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"movie_filter": WAR, "exclude_movie_ids": np.array([1])}, Verdict.FILTERED_OUT),
        ({"exclude_movie_ids": np.array([1])}, Verdict.EXCLUDED),
        ({}, Verdict.SEEN),
    ],
)
async def test_what_is_left_out_has_a_first_reason_and_all_of_them(
    world: World, fields: dict[str, Any], verdict: Verdict
) -> None:
    world.candidates.answer = candidates(5)
    answer = await why(world, 1, user_id=100, limit=1, **fields)  # 100 has seen 1
    assert answer.verdict is verdict
    assert answer.facts.seen
    assert answer.facts.excluded == ("exclude_movie_ids" in fields)
    assert answer.facts.filtered_out == ("movie_filter" in fields)
    assert answer.retrieval is not None  # and where it would stand


async def test_seen_is_no_obstacle_to_who_wants_seen_movies(world: World) -> None:
    world.candidates.answer = candidates(2, 1)
    answer = await why(world, 1, user_id=100, include_seen=True)
    assert (answer.verdict, answer.rank, answer.facts.seen) == (Verdict.LISTED, 1, True)


async def test_retrieval_may_know_more_of_what_was_seen(world: World) -> None:
    world.candidates.answer = candidates(3)
    world.candidates.seen = (6,)
    answer = await why(world, 6, limit=1)
    assert (answer.verdict, answer.facts.seen) == (Verdict.SEEN, True)


async def test_a_cold_movie(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    world.candidates.cold = (6,)
    answer = await why(world, 6, limit=2)
    assert (answer.verdict, answer.retrieval, answer.ranking) == (Verdict.COLD_MOVIE, None, None)
    assert answer.score_gap is None
    assert world.ranking.queries[0].probes == ()
    assert (await why(world, 6)).verdict is Verdict.LISTED  # by its popularity, in the end


async def test_a_movie_that_the_ranker_cannot_score(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5)
    world.ranking.unknown = (4,)
    answer = await why(world, 4, limit=2)
    assert (answer.verdict, answer.ranking, answer.score_gap) == (Verdict.NOT_RANKED, None, None)


async def test_an_unknown_user(world: World) -> None:
    world.candidates.answer = NO_VECTOR
    answer = await why(world, 6, user_id=12345, limit=3)  # 1, 2, 5 are popular
    assert (answer.verdict, answer.retrieval, answer.ranking) == (Verdict.UNKNOWN_USER, None, None)
    assert answer.last is not None
    assert answer.last.movie_row == 5 - 1
    assert answer.score_gap == 3.0  # of popularity
    assert answer.answer.reason is FallbackReason.UNKNOWN_USER
    assert (await why(world, 5, user_id=12345, limit=3)).rank == 3


async def test_without_retrieval_what_is_known_is_answered(world: World) -> None:
    world.candidates.answer = failing(StageName.CANDIDATE)
    answer = await why(world, 6, limit=3)
    assert (answer.verdict, answer.retrieval, answer.ranking) == (Verdict.RETRIEVAL_FAILED, None, None)
    assert (answer.answer.model, answer.answer.degraded) == ("popularity_fallback", True)
    assert answer.answer.reason is FallbackReason.DEPENDENCY_UNAVAILABLE
    assert (await why(world, 1, user_id=100)).verdict is Verdict.SEEN
    assert (await why(world, 6)).verdict is Verdict.LISTED


async def test_without_ranking_the_order_is_that_of_als(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5)
    world.ranking.failure = failing(StageName.RANKING)
    answer = await why(world, 5, limit=2)
    assert (answer.verdict, answer.ranking) == (Verdict.RANKED_BELOW, None)
    assert answer.retrieval is not None
    assert (answer.answer.model, answer.answer.degraded) == ("als_only", True)
    assert answer.score_gap == pytest.approx(0.5 - 0.1)
    assert (await why(world, 6, limit=2)).verdict is Verdict.NOT_RETRIEVED
    assert (await why(world, 4, limit=2)).rank == 2


async def test_a_filter_that_leaves_no_candidate(world: World) -> None:
    world.candidates.answer = candidates()
    world.candidates.cold = (5,)
    answer = await why(world, 5, movie_filter=WAR, limit=1)
    assert (answer.verdict, answer.rank) == (Verdict.LISTED, 1)  # by popularity
    assert answer.ranking is None
    assert not world.ranking.queries


async def test_an_empty_list_has_no_last_movie(world: World) -> None:
    answer = await why(world, 1, user_id=200)  # has seen everything
    assert (answer.verdict, answer.last, answer.score_gap) == (Verdict.SEEN, None, None)


async def test_one_call_for_each_stage(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    await why(world, 6, limit=1)
    (query,) = world.candidates.queries
    assert query.probe_movie_ids == (6,)
    (ranking,) = world.ranking.queries
    (probe,) = ranking.probes
    assert (probe.movie_id, probe.retrieval_score, probe.retrieval_rank) == (6, 0.05, 3)
    assert ranking.movie_ids.tolist() == [3, 4]
    assert ranking.explain_features == 0  # a whole page of explanations is not needed


async def test_an_unknown_movie_is_not_found_and_nobody_is_asked(world: World) -> None:
    with pytest.raises(NotFoundError) as caught:
        await why(world, 99)
    assert caught.value.reason is Reason.UNKNOWN_MOVIE
    assert not world.candidates.queries


# While a bundle is rolled out, the gateway holds two, and candidates come from either.


async def test_all_that_is_said_is_of_the_bundle_of_the_list() -> None:
    world = World(catalogue(OTHER_BUNDLE, seen={100: (3,)}, popularity=POPULARITY[::-1]), catalogue())
    world.candidates.answer = candidates(3, 4)
    answer = await why(world, 3, user_id=100)
    assert (answer.verdict, answer.facts.seen, answer.answer.bundle_id) == (Verdict.LISTED, False, BUNDLE)


async def test_a_movie_that_the_bundle_of_the_list_does_not_have() -> None:
    world = World(catalogue(), catalogue(OTHER_BUNDLE, seen={}, popularity=POPULARITY[:5]))
    world.candidates.answer = candidates(3, 4, bundle_id=OTHER_BUNDLE)
    with pytest.raises(NotFoundError):
        await why(world, 6)
    assert (await why(world, 5)).answer.bundle_id == OTHER_BUNDLE


@pytest.mark.parametrize("movie_ids", [(), (900,)])
async def test_what_a_bundle_that_is_not_held_says_is_no_verdict(
    world: World, movie_ids: tuple[int, ...]
) -> None:
    vector = UserVector.TRAINED if movie_ids else UserVector.NONE
    world.candidates.answer = candidates(*movie_ids, user_vector=vector, bundle_id=OTHER_BUNDLE)
    answer = await why(world, 6, limit=3)
    assert (answer.verdict, answer.retrieval) == (Verdict.RETRIEVAL_FAILED, None)
    assert answer.answer.reason is FallbackReason.BUNDLE_MISMATCH
