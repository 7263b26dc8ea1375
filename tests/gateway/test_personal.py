"""Personal lists: every rung, what fills them, what they leave out, and how long they may take."""

import asyncio
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from gateway.fallback import FallbackPolicy
from gateway.lists.catalogue import LikedMovie
from gateway.lists.list_builder import ListAnswer
from gateway.requests import PersonalRequest
from serving.errors import DeadlineError, Reason, UnavailableError
from serving.filters import MovieFilter
from serving.ratings import NO_TIME, RatedMovies
from serving.stages.candidate import CandidateList, LikedMovies, UserVector
from serving.stages.stage import FallbackReason, StageError, StageName
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
    sources,
)

TWO, ALS, POP = "two_stage", "als_only", "popularity_fallback"
FAULT = "DEPENDENCY_UNAVAILABLE"
LOVED = RatedMovies((5, 99), (5.0, 5.0), (NO_TIME, NO_TIME))  # 99 is in no catalogue
HORROR = MovieFilter(genres=("horror",))
DENY = FallbackPolicy.DENY


async def ask(world: World, user_id: int = 300, **fields: Any) -> ListAnswer:
    return await world.api.personal(PersonalRequest(user_id=user_id, **fields), None)


# Which model serves the list, and why.


async def test_candidates_are_ordered_by_ranking(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5, 6)
    answer = await ask(world, limit=3)
    assert ids(answer) == [6, 5, 4]
    assert [item.score for item in answer.items] == [3.0, 2.0, 1.0]
    assert sources(answer) == [TWO] * 3
    assert (answer.model, answer.degraded, answer.reason) == (TWO, False, None)
    assert answer.bundle_id == BUNDLE
    assert answer.base_value is None
    assert world.counted("answers", method="ListPersonalMovies", model=TWO) == 1
    assert world.counted("degraded", method="ListPersonalMovies") == 0


async def test_what_was_answered_goes_at_once(world: World, without_garbage_collection: None) -> None:
    world.candidates.answer = candidates(3, 4, 5, 6)
    request = PersonalRequest(user_id=300)
    await world.api.personal(request, None)
    known = weakref.ref(request)
    del request
    assert known() is None


async def test_without_ranking_the_order_is_that_of_als(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5, 6)
    world.ranking.failure = failing(StageName.RANKING)
    with capture_logs() as lines:
        answer = await ask(world, limit=3, explain_features=1)
    assert ids(answer) == [3, 4, 5]
    assert sources(answer) == [ALS] * 3
    assert (answer.model, answer.degraded, answer.reason) == (ALS, True, FAULT)
    assert (answer.bundle_id, answer.base_value) == (BUNDLE, None)
    assert world.counted("answers", method="ListPersonalMovies", model=ALS) == 1
    assert world.counted("degraded", method="ListPersonalMovies") == 1
    assert world.counted("fallbacks", service="ranking", reason=FAULT) == 1
    (line,) = lines
    assert line["log_level"] == "warning"
    assert (line["stage"], line["reason"], line["model"]) == ("ranking", FAULT, ALS)


async def test_without_candidates_the_list_is_what_is_popular(world: World) -> None:
    world.candidates.answer = failing(StageName.CANDIDATE)
    with capture_logs() as lines:
        answer = await ask(world, limit=3)
    assert ids(answer) == [1, 2, 5]
    assert [item.score for item in answer.items] == [5.0, 4.0, 4.0]
    assert (answer.model, answer.degraded, answer.reason) == (POP, True, FAULT)
    assert not world.ranking.queries
    assert world.counted("degraded", method="ListPersonalMovies") == 1
    assert world.counted("fallbacks", service="candidate", reason=FAULT) == 1
    assert len(lines) == 1


@pytest.mark.parametrize("reason", [r for r in FallbackReason if r.startswith(("DEP", "MOD", "BUN", "INV"))])
async def test_the_fault_is_named(world: World, reason: FallbackReason) -> None:
    world.candidates.answer = candidates(3)
    world.ranking.failure = failing(StageName.RANKING, reason)
    answer = await ask(world, limit=1)
    assert (answer.model, answer.degraded, answer.reason) == (ALS, True, reason)
    world.candidates.answer = failing(StageName.CANDIDATE, reason)
    answer = await ask(world, limit=1)
    assert (answer.model, answer.degraded, answer.reason) == (POP, True, reason)
    assert answer.failure == world.candidates.answer.failure


async def test_an_unknown_user_gets_what_is_popular(world: World) -> None:
    world.candidates.answer = NO_VECTOR
    with capture_logs() as lines:
        answer = await ask(world, user_id=2**63 - 1, limit=3)
    assert ids(answer) == [1, 2, 5]
    assert (answer.model, answer.degraded, answer.reason) == (POP, False, "UNKNOWN_USER")
    assert world.counted("fallbacks", service="candidate", reason="UNKNOWN_USER") == 1
    assert world.counted("degraded", method="ListPersonalMovies") == 0
    assert not lines


async def test_a_history_is_enough_for_two_stages(world: World) -> None:
    world.candidates.answer = candidates(3, user_vector=UserVector.FOLDED_IN)
    answer = await ask(world, user_id=0, history=LOVED, limit=1)
    assert (ids(answer), answer.model, answer.reason) == ([3], TWO, None)
    assert world.candidates.queries[0].history == world.ranking.queries[0].history == LOVED


@pytest.mark.row(15)
@pytest.mark.parametrize(("user_id", "shown"), [(300, [1, 2]), (200, [])], ids=["some", "everything seen"])
async def test_a_user_with_nothing_left_gets_what_is_popular_if_anything(
    world: World, user_id: int, shown: list[int]
) -> None:
    world.candidates.answer = candidates()
    answer = await ask(world, user_id=user_id, limit=2)
    assert ids(answer) == shown
    assert (answer.model, answer.degraded, answer.reason) == (POP, False, "NO_CANDIDATES")
    assert not world.ranking.queries


async def test_without_a_bundle_there_is_no_answer(world: World) -> None:
    world.catalogues.catalogues.clear()
    with pytest.raises(UnavailableError):
        await world.api.personal(PersonalRequest(user_id=1), None)
    assert not world.candidates.queries


# What a short list is filled from.


async def test_a_short_list_is_filled_with_what_is_popular(world: World) -> None:
    world.candidates.answer = candidates(1, 6)
    answer = await ask(world, limit=5)
    assert ids(answer) == [6, 1, 2, 5, 3]
    assert sources(answer) == [TWO, TWO, POP, POP, POP]
    assert (answer.model, answer.degraded, answer.reason) == (TWO, False, "NO_CANDIDATES")


async def test_with_a_filter_a_short_list_is_filtered_out(world: World) -> None:
    world.candidates.answer = candidates(7)
    answer = await ask(world, limit=5, movie_filter=HORROR)
    assert ids(answer) == [7, 6]
    assert sources(answer) == [TWO, POP]
    assert (answer.model, answer.degraded, answer.reason) == (TWO, False, "FILTERED_OUT")


async def test_what_ranking_left_out_comes_before_what_is_popular(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5)
    real = world.ranking.ask

    async def forgetful(query: Any, **more: Any) -> Any:
        ranked = await real(query, **more)
        return replace(ranked, movie_ids=ranked.movie_ids[:1], scores=ranked.scores[:1])

    world.ranking.ask = forgetful  # type: ignore[method-assign]  # a stage that forgets
    answer = await ask(world, limit=4)
    assert ids(answer) == [5, 3, 4, 1]
    assert sources(answer) == [TWO, ALS, ALS, POP]
    assert answer.reason == "NO_CANDIDATES"


@pytest.mark.row(18)
async def test_movies_unknown_to_ranking_are_dropped_and_counted(world: World) -> None:
    world.candidates.answer = candidates(1, 3, 4)
    world.ranking.unknown = (1,)
    answer = await ask(world, limit=3)
    assert ids(answer) == [4, 3, 2]
    assert sources(answer) == [TWO, TWO, POP]
    assert world.counted("unknown_items") == 1


# Seen movies, history, exclusions and what fails the filter: left out by whoever can, and of every list, as
# the properties in test_properties.py say.


async def test_the_exclusions_of_the_request_go_down_to_retrieval(world: World) -> None:
    world.candidates.answer = candidates(3)
    await ask(world, user_id=100, exclude_movie_ids=np.array([7, 3, 7]), movie_filter=HORROR, history=LOVED)
    (query,) = world.candidates.queries
    assert query.exclude_movie_ids.tolist() == [7, 3, 7]  # what the user has seen, retrieval knows itself
    assert query.movie_filter == HORROR
    assert (query.user_id, query.limit, query.include_seen, query.because_of) == (100, 0, False, 0)


@pytest.mark.parametrize("bundle_id", [BUNDLE, OTHER_BUNDLE], ids=["held", "not held"])
async def test_a_mistake_of_retrieval_is_blocked(world: World, bundle_id: str) -> None:
    world.candidates.answer = candidates(1, 3, 7, bundle_id=bundle_id)
    answer = await ask(world, user_id=100, movie_filter=MovieFilter(exclude_genres=("Horror",)), limit=1)
    assert ids(answer) == [3]
    asked = [query.movie_ids.tolist() for query in world.ranking.queries]
    assert asked == ([[3]] if bundle_id == BUNDLE else [])


# While a bundle is rolled out, the gateway holds two, and candidates come from either.


def ranked_from(world: World) -> list[str]:
    return [query.bundle_id for query in world.ranking.queries]


NEW = catalogue(OTHER_BUNDLE, seen={100: (1, 2, 3)}, popularity=POPULARITY[::-1])


async def test_all_of_a_list_is_of_the_bundle_of_its_candidates() -> None:
    world = World(NEW, catalogue())
    world.candidates.answer = candidates(3, 1, 7)
    answer = await ask(world, user_id=100, limit=4)
    assert ids(answer) == [7, 3, 5, 8]  # 1 is seen; 3 is not, in this bundle
    assert sources(answer) == [TWO, TWO, POP, POP]
    assert [item.score for item in answer.items[2:]] == [POPULARITY[4], POPULARITY[7]]
    assert (answer.bundle_id, answer.degraded, ranked_from(world)) == (BUNDLE, False, [BUNDLE])


MISMATCH = FallbackReason.BUNDLE_MISMATCH


@pytest.mark.parametrize(
    ("found", "user_id", "named", "shown", "served", "reason"),
    [
        # 3 is seen as well, and what is popular has changed
        (candidates(3, 1, 7, bundle_id=OTHER_BUNDLE), 100, "", [7, 8, 4], OTHER_BUNDLE, "NO_CANDIDATES"),
        (candidates(3, 1, 7), 100, BUNDLE, [7, 3, 5], BUNDLE, "NO_CANDIDATES"),
        (NO_VECTOR, 9, "", [1, 2, 5], BUNDLE, "UNKNOWN_USER"),
        (failing(StageName.CANDIDATE), 9, "", [8, 4, 7], OTHER_BUNDLE, FAULT),
        (failing(StageName.CANDIDATE, MISMATCH), 300, BUNDLE, [1, 2, 5], BUNDLE, MISMATCH),
    ],
    ids=["new candidates", "named", "unknown user", "no candidates", "named, and not held by stage one"],
)
async def test_which_of_two_bundles_answers(
    found: CandidateList | StageError, user_id: int, *, named: str, shown: list[int], served: str, reason: str
) -> None:
    world = World(NEW, catalogue())
    world.candidates.answer = found
    answer = await ask(world, user_id=user_id, limit=3, bundle_id=named)
    assert [query.bundle_id for query in world.candidates.queries] == [named]
    assert (ids(answer), answer.bundle_id, answer.reason) == (shown, served, reason)
    assert answer.degraded == isinstance(found, StageError)
    assert ranked_from(world) == ([served] if answer.model == TWO else [])


# Candidates from a bundle that the gateway does not hold.


async def test_what_comes_from_a_bundle_that_is_not_held_is_not_ranked(world: World) -> None:
    world.candidates.answer = candidates(900, 3, 901, 4, bundle_id=OTHER_BUNDLE)
    answer = await ask(world, limit=3)
    assert ids(answer) == [3, 4, 1]
    assert sources(answer) == [ALS, ALS, POP]
    assert (answer.model, answer.degraded, answer.reason) == (ALS, True, "BUNDLE_MISMATCH")
    assert answer.bundle_id == OTHER_BUNDLE  # it set the order
    assert not world.ranking.queries
    assert world.counted("unknown_items") == 2
    assert world.counted("fallbacks", service="candidate", reason="BUNDLE_MISMATCH") == 1


@pytest.mark.parametrize(
    "useless",
    [
        pytest.param(candidates(user_vector=UserVector.NONE, bundle_id=OTHER_BUNDLE), id="no vector"),
        pytest.param(candidates(900, 901, bundle_id=OTHER_BUNDLE), id="only unknown movies"),
        pytest.param(candidates(bundle_id=OTHER_BUNDLE), id="no movies"),
    ],
)
async def test_nothing_usable_from_such_a_bundle_is_a_fault(world: World, useless: CandidateList) -> None:
    world.candidates.answer = useless
    answer = await ask(world, limit=1)
    assert (ids(answer), answer.model, answer.bundle_id) == ([1], POP, BUNDLE)  # the gateway's own
    assert (answer.degraded, answer.reason) == (True, "BUNDLE_MISMATCH")
    assert world.counted("fallbacks", service="candidate", reason="BUNDLE_MISMATCH") == 1
    for denied in (useless, candidates(3, bundle_id=OTHER_BUNDLE)):
        world.candidates.answer = denied
        with pytest.raises(UnavailableError) as caught:
            await ask(world, fallback_policy=DENY)
        assert caught.value.metadata == {"service": "candidate", "cause": "BUNDLE_MISMATCH"}


# What ranking is asked for, and what is shown of its answer.


async def test_ranking_returns_the_page_only(world: World) -> None:
    world.candidates.answer = candidates(3, 4, 5, 6)
    await ask(world, limit=2, diversity=0.5, explain_features=2)
    (query,) = world.ranking.queries
    assert query.movie_ids.tolist() == [3, 4, 5, 6]
    assert query.retrieval_scores.dtype == np.float32
    assert (query.limit, query.diversity, query.explain_features) == (2, 0.5, 2)


async def test_every_answer_has_an_id_of_its_own(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    one, two = (await ask(world)).recommendation_id, (await ask(world)).recommendation_id
    assert one != two
    assert len(one) == len(two) == 32


# The liked movies that speak for a movie.


async def test_reasons_follow_their_movies(world: World) -> None:
    liked = LikedMovies(
        np.array([[1, 2], [2, 0], [901, 8]]), np.array([[0.5, 0.25], [0.5, 0], [0.25, 0.125]], np.float32)
    )
    world.candidates.answer = replace(candidates(3, 900, 4), because_of=liked)
    page = await ask(world, user_id=100, limit=3, because_of=2)
    assert ids(page) == [4, 3, 5]
    of_3 = (LikedMovie(1, "Movie 1", 0.5), LikedMovie(2, "Movie 2", 0.25))
    of_4 = (LikedMovie(8, "Movie 8", 0.125),)  # 901 is in no catalogue
    assert [item.because_of for item in page.items] == [of_4, of_3, ()]  # what fills up, no like speaks for
    world.ranking.failure = failing(StageName.RANKING)
    page = await ask(world, user_id=100, limit=2, because_of=2)
    assert [item.because_of for item in page.items] == [of_3, of_4]
    assert [query.because_of for query in world.candidates.queries] == [2, 2]


# Who denies fallbacks gets an error, or a shorter list, where others get a weaker one.


@pytest.mark.parametrize("stage", [StageName.CANDIDATE, StageName.RANKING])
async def test_a_fault_is_an_error(world: World, stage: StageName) -> None:
    failure = failing(stage, FallbackReason.DEPENDENCY_TIMEOUT)
    world.candidates.answer = failure if stage is StageName.CANDIDATE else candidates(3)
    world.ranking.failure = failure
    with pytest.raises(UnavailableError) as caught:
        await ask(world, fallback_policy=DENY)
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert caught.value.metadata == {"service": stage, "cause": "DEPENDENCY_TIMEOUT"}
    assert world.counted("degraded", method="ListPersonalMovies") == 0


@pytest.mark.parametrize(
    ("found", "limit", "movie_filter", "reason"),
    [
        ((3, 4), 5, MovieFilter(), "NO_CANDIDATES"),
        ((), 5, HORROR, "FILTERED_OUT"),
        ((3, 4), 2, MovieFilter(), None),
    ],
    ids=["short", "empty", "full"],
)
async def test_a_list_stays_as_short_as_it_is(
    world: World, found: tuple[int, ...], limit: int, movie_filter: MovieFilter, reason: str | None
) -> None:
    world.candidates.answer = candidates(*found)
    answer = await ask(world, limit=limit, movie_filter=movie_filter, fallback_policy=DENY)
    assert ids(answer) == [*reversed(found)]
    assert (answer.model, answer.degraded, answer.reason) == (TWO, False, reason)


# Deadlines and cancels of one request. No test waits.


async def test_each_stage_gets_its_share(world: World) -> None:
    world.candidates.answer = candidates(3)
    await world.api.personal(PersonalRequest(user_id=300), 1.02)
    assert 0 < world.candidates.seconds[0] <= 0.4  # of the second beside the reserve
    assert 0 < world.ranking.seconds[0] <= 0.8


@pytest.mark.row(29)
async def test_too_little_time_is_an_error_before_any_work(world: World) -> None:
    with pytest.raises(DeadlineError):
        await world.api.personal(PersonalRequest(user_id=300), 0.001)
    assert not world.candidates.queries


@pytest.mark.row(30)
async def test_a_cancel_reaches_the_stage_and_comes_back(world: World) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def hanging(query: Any, *, seconds: float) -> Any:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    world.candidates.ask = hanging  # type: ignore[method-assign]  # a stage that never answers
    task = asyncio.create_task(ask(world))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
