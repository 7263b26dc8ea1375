"""Deadlines and cancels of one request. No test waits."""

import asyncio
from typing import Any

import pytest

from gateway.lists.list_builder import ListAnswer
from gateway.requests import PersonalRequest
from serving.errors import DeadlineError
from serving.stages.stage import StageName
from tests.gateway.small_world import (
    BUDGETS,
    World,
    candidates,
)


async def ask(world: World, user_id: int = 300, **fields: Any) -> ListAnswer:
    return await world.api.personal(PersonalRequest(user_id=user_id, **fields), None)


async def test_each_stage_gets_its_share(world: World) -> None:
    world.candidates.answer = candidates(3)
    await world.api.personal(PersonalRequest(user_id=300), 1.02)
    assert 0 < world.candidates.seconds[0] <= 0.4  # of the second beside the reserve
    assert 0 < world.ranking.seconds[0] <= 0.8


async def test_a_patient_client_gets_the_stages_own_budgets(world: World) -> None:
    world.candidates.answer = candidates(3)
    await world.api.personal(PersonalRequest(user_id=300), 3600.0)
    assert world.candidates.seconds == [BUDGETS.stages[StageName.CANDIDATE].seconds]
    assert world.ranking.seconds == [BUDGETS.stages[StageName.RANKING].seconds]


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


async def test_a_defect_is_not_a_step_down(world: World) -> None:
    world.candidates.answer = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await ask(world)
