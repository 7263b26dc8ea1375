"""Many users at once: each with a list, a deadline and a fate of their own."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.requests import PersonalRequest
from serving.stages.stage import StageName
from tests.gateway.small_world import BUDGETS, World, candidates, failing, ids

TWO, POP = "two_stage", "popularity_fallback"
FAULT = "DEPENDENCY_UNAVAILABLE"


async def test_answers_come_in_order_and_each_steps_down_alone(world: World) -> None:
    async def by_user(query: Any, *, seconds: float) -> Any:
        if query.user_id == 2:
            raise failing(StageName.CANDIDATE)
        return candidates() if query.user_id == 3 else candidates(query.user_id + 2)

    world.candidates.ask = by_user  # type: ignore[method-assign]  # answers by user
    requests = [PersonalRequest(user_id=user, limit=1) for user in (1, 2, 3, 4)]
    answers = await world.api.personal_batch(requests, None)
    assert [ids(answer) for answer in answers] == [[3], [1], [1], [6]]
    assert [answer.model for answer in answers] == [TWO, POP, POP, TWO]
    assert [answer.reason for answer in answers] == [None, FAULT, "NO_CANDIDATES", None]
    assert world.counted("answers", method="BatchListPersonalMovies", model=TWO) == 2
    assert world.counted("degraded", method="BatchListPersonalMovies") == 1


async def test_only_so_many_users_are_at_work_at_once(world: World) -> None:
    at_work, most = 0, 0

    async def counting(query: Any, *, seconds: float) -> Any:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        return candidates(3)

    world.candidates.ask = counting  # type: ignore[method-assign]  # counts who is at work
    pipeline = world.gateway(batch_concurrency=4)
    answers = await pipeline.personal_batch([PersonalRequest(user_id=300)] * 20, None)
    assert len(answers) == 20
    assert most == 4


async def test_a_user_whose_turn_comes_too_late_gets_what_is_popular(world: World) -> None:
    async def slow(query: Any, *, seconds: float) -> Any:
        await asyncio.sleep(0.06)  # longer than the batch may take
        return candidates(3)

    world.candidates.ask = slow  # type: ignore[method-assign]  # uses the time up
    pipeline = world.gateway(batch_concurrency=1, budgets=replace(BUDGETS, batch=0.06))
    _, late = await pipeline.personal_batch([PersonalRequest(user_id=300, limit=1)] * 2, None)
    assert (ids(late), late.model, late.reason) == ([1], POP, "DEPENDENCY_TIMEOUT")


@pytest.mark.row(30)
async def test_a_cancelled_batch_cancels_every_user(world: World) -> None:
    ended = 0
    all_asked = asyncio.Event()

    async def hanging(query: Any, *, seconds: float) -> Any:
        nonlocal ended
        if query.user_id == 3:
            all_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    world.candidates.ask = hanging  # type: ignore[method-assign]  # a stage that never answers
    requests = [PersonalRequest(user_id=user) for user in (1, 2, 3)]
    task = asyncio.create_task(world.api.personal_batch(requests, None))
    await all_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == 3
