"""What a client gets that denies fallbacks, where others would get a weaker list."""

from typing import Any

import pytest

from gateway.fallback import FallbackPolicy
from gateway.lists.list_builder import ListAnswer
from gateway.requests import PersonalRequest
from serving.errors import NotFoundError, Reason, UnavailableError
from serving.filters import MovieFilter
from serving.stages.stage import FallbackReason, StageName
from tests.gateway.small_world import (
    World,
    candidates,
    failing,
    ids,
)

DENY = FallbackPolicy.DENY
TWO = "two_stage"
HORROR = MovieFilter(genres=("horror",))


async def ask(world: World, user_id: int = 300, **fields: Any) -> ListAnswer:
    return await world.api.personal(PersonalRequest(user_id=user_id, **fields), None)


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


async def test_an_unknown_user_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError) as caught:
        await ask(world, user_id=77, fallback_policy=DENY)
    assert caught.value.reason is Reason.UNKNOWN_USER
    assert caught.value.metadata == {"user_id": "77"}


async def test_a_short_list_stays_short(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    answer = await ask(world, limit=5, fallback_policy=DENY)
    assert ids(answer) == [4, 3]
    assert (answer.model, answer.degraded, answer.reason) == (TWO, False, "NO_CANDIDATES")


async def test_an_empty_list_stays_empty(world: World) -> None:
    world.candidates.answer = candidates()
    answer = await ask(world, movie_filter=HORROR, fallback_policy=DENY)
    assert ids(answer) == []
    assert (answer.model, answer.degraded, answer.reason) == (TWO, False, "FILTERED_OUT")


async def test_a_full_list_is_as_ever(world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    answer = await ask(world, limit=2, fallback_policy=DENY)
    assert (ids(answer), answer.model, answer.reason) == ([4, 3], TWO, None)
