"""Queries that wait for a stage: which share a call, when, and what becomes of each. Calls end on cue."""

import asyncio
import weakref
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics
from gateway.stages.batch_queue import BatchLimits, BatchQueue
from serving.stages.ranking import CODEC, RankedList, RankingQuery
from serving.stages.stage import (
    FallbackReason,
    InvalidQueryError,
    StageCodec,
    StageError,
    StageFailure,
    StageName,
)
from tests.gateway.small_world import (
    BUNDLE,
    OTHER_BUNDLE,
    closed_breaker,
    failing,
    settle,
)

AMPLE: Final = 60.0  # seconds: no test is decided by it
PATIENT: Final = 3_600.0  # so much more that nothing which should happen now happens by it
STAGE: Final = StageName.RANKING
LIMITS: Final = BatchLimits(max_calls=1, max_queries=32, hold_seconds=PATIENT)


request_id: ContextVar[int] = ContextVar("request_id")


@dataclass(eq=False)
class Call:
    """A call as the stage sees it; it ends when the test says how."""

    queries: Sequence[RankingQuery]
    seconds: float
    request_id: int
    answer: asyncio.Future[list[RankedList | StageFailure]] = field(default_factory=asyncio.Future)
    cancelled: bool = False

    @property
    def users(self) -> list[int]:
        """Whom it is about."""
        return [query.user_id for query in self.queries]

    @property
    def bundle_id(self) -> str:
        """The bundle of its first query."""
        return self.queries[0].bundle_id

    def succeed(self) -> None:
        """Answers each query from that query alone."""
        self.answer.set_result([answer_to(query) for query in self.queries])

    def fail(self, error: Exception) -> None:
        """Answers an error."""
        self.answer.set_exception(error)


class CuedStage:
    """Makes calls, as `StageClient` does, that end on cue."""

    codec: StageCodec[RankingQuery, RankedList] = CODEC

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.in_flight = 0
        self.changed = asyncio.Event()

    async def nth_call(self, number: int) -> Call:
        """The call with this number, once it has come."""
        async with asyncio.timeout(AMPLE):
            while len(self.calls) <= number:
                self.changed.clear()
                await self.changed.wait()
        return self.calls[number]

    async def call(
        self, queries: Sequence[RankingQuery], *, seconds: float
    ) -> list[RankedList | StageFailure]:
        """Answers a call on cue."""
        call = Call(queries, seconds, request_id.get(0))
        self.calls.append(call)
        self.changed.set()
        self.in_flight += 1
        try:
            return await call.answer
        except asyncio.CancelledError:
            call.cancelled = True
            raise
        finally:
            self.in_flight -= 1


class Waiting:
    """Callers before a stage on cue."""

    def __init__(self, limits: BatchLimits = LIMITS) -> None:
        self.cued = CuedStage()
        self.registry = CollectorRegistry()
        metrics = GatewayMetrics.create(self.registry)
        self.queue: BatchQueue[RankingQuery, RankedList] = BatchQueue(
            self.cued,  # type: ignore[arg-type]  # stands for a StageClient
            breaker=closed_breaker(STAGE, metrics),
            limits=limits,
            metrics=metrics,
        )

    def ask(self, user: int, seconds: float = PATIENT) -> asyncio.Task[int]:
        """A caller who asks for one user, and gets the movie of that user's number."""

        async def one() -> int:
            return int((await self.queue.ask(query(user), seconds=seconds)).movie_ids[0])

        return asyncio.create_task(one())

    def ask_of(self, user: int, bundle_id: str) -> asyncio.Task[str]:
        """The same; gets the bundle that the answer is from."""

        async def one() -> str:
            answer = await self.queue.ask(query(user, bundle_id), seconds=PATIENT)
            assert answer.movie_ids.tolist() == [user]
            return answer.bundle_id

        return asyncio.create_task(one())

    def sample(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.registry.get_sample_value(f"movierec_{name}", labels)


@pytest.fixture
async def waiting() -> Waiting:
    return Waiting()


def query(user: int, bundle_id: str = BUNDLE) -> RankingQuery:
    return RankingQuery(user, np.array([user]), np.array([0.5]), bundle_id=bundle_id, limit=1)


def answer_to(asked: RankingQuery) -> RankedList:
    return RankedList(asked.movie_ids, np.array([1.0]), asked.bundle_id, base_value=-2.0)


async def failure(caller: Awaitable[Any]) -> StageFailure:
    """Why a caller steps down."""
    with pytest.raises(StageError) as caught:
        await caller
    return caught.value.failure


def timeout(failed: StageFailure) -> bool:
    return failed.reason is FallbackReason.DEPENDENCY_TIMEOUT


# Which queries share a call.


async def test_an_idle_stage_is_asked_at_once(waiting: Waiting) -> None:
    for user in (1, 2, 3):
        caller = waiting.ask(user)
        await settle()  # and no timer
        assert waiting.cued.calls[-1].users == [user]
        waiting.cued.calls[-1].succeed()
        assert await caller == user
    assert len(waiting.cued.calls) == 3


async def test_what_was_answered_goes_at_once(waiting: Waiting, without_garbage_collection: None) -> None:
    asked = query(1)
    caller = asyncio.create_task(waiting.queue.ask(asked, seconds=PATIENT))
    (await waiting.cued.nth_call(0)).succeed()
    await caller
    await settle()
    waiting.cued.calls.clear()
    known = weakref.ref(asked)
    del asked, caller
    assert known() is None


async def test_what_waits_shares_a_call_in_order_as_many_as_fit(waiting: Waiting) -> None:
    first = waiting.ask(0)
    (await waiting.cued.nth_call(0)).succeed()
    assert await first == 0
    callers = [waiting.ask(100)]
    await waiting.cued.nth_call(1)
    callers += [waiting.ask(user) for user in range(101, 141)]
    await settle()
    assert len(waiting.cued.calls) == 2  # they wait
    for number in (1, 2, 3):
        (await waiting.cued.nth_call(number)).succeed()
    assert await asyncio.gather(*callers) == list(range(100, 141))
    assert [call.users for call in waiting.cued.calls[1:]] == [
        [100],
        list(range(101, 133)),
        list(range(133, 141)),
    ]


@pytest.mark.parametrize(("n_callers", "turns"), [(32, 0), (3, 5)])
async def test_who_arrives_in_one_turn_or_a_few_later_shares_a_call(
    waiting: Waiting, n_callers: int, turns: int
) -> None:
    callers = []
    for user in range(1, n_callers + 1):
        callers.append(waiting.ask(user))
        for _ in range(turns):
            await asyncio.sleep(0)
    (await waiting.cued.nth_call(0)).succeed()
    assert await asyncio.gather(*callers) == waiting.cued.calls[0].users == list(range(1, n_callers + 1))
    assert waiting.sample("stage_batch_size_sum", stage="ranking") == n_callers
    assert waiting.sample("stage_batch_size_count", stage="ranking") == 1
    assert waiting.sample("stage_wait_seconds_count", stage="ranking") == n_callers


async def test_a_full_call_waits_for_nobody_else() -> None:
    waiting = Waiting(replace(LIMITS, max_queries=2))
    callers = [waiting.ask(user) for user in (1, 2)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert [call.users for call in waiting.cued.calls] == [[1, 2]]
    waiting.cued.calls[0].succeed()
    assert await asyncio.gather(*callers) == [1, 2]


async def test_the_latest_to_arrive_goes_before_the_call(waiting: Waiting) -> None:
    caller = waiting.ask(1)
    other = waiting.ask(2)
    await asyncio.sleep(0)
    assert await cancelled(other)
    (await waiting.cued.nth_call(0)).succeed()
    assert await caller == 1
    assert waiting.cued.calls[0].users == [1]


async def test_the_next_call_leaves_before_the_last_ones_answers_are_read(waiting: Waiting) -> None:
    caller = waiting.ask(1)
    call = await waiting.cued.nth_call(0)
    seen: list[int] = []
    caller.add_done_callback(lambda _: seen.append(len(waiting.cued.calls)))
    other = waiting.ask(2)
    await settle()
    call.succeed()
    await caller
    await settle()
    assert seen == [2]
    waiting.cued.calls[1].succeed()
    assert await other == 2


@pytest.mark.parametrize("max_calls", [1, 2, 5])
async def test_so_many_calls_are_out_at_once(max_calls: int) -> None:
    waiting = Waiting(replace(LIMITS, max_calls=max_calls))
    callers = []
    for user in range(8):
        callers.append(waiting.ask(user))
        await settle()
    assert [call.users for call in waiting.cued.calls] == [[user] for user in range(max_calls)]
    waiting.cued.calls[0].succeed()
    last = await waiting.cued.nth_call(max_calls)
    assert last.users == list(range(max_calls, 8))
    for call in waiting.cued.calls[1:]:
        call.succeed()
    assert await asyncio.gather(*callers) == list(range(8))


async def test_bundles_never_share_a_call(waiting: Waiting) -> None:
    bundles = [BUNDLE, BUNDLE, OTHER_BUNDLE, BUNDLE, OTHER_BUNDLE]
    callers = [waiting.ask_of(user, bundle_id) for user, bundle_id in enumerate(bundles, start=1)]
    for number in (0, 1):
        (await waiting.cued.nth_call(number)).succeed()
    assert await asyncio.gather(*callers) == bundles
    assert [(call.bundle_id, call.users) for call in waiting.cued.calls] == [
        (BUNDLE, [1, 2, 4]),
        (OTHER_BUNDLE, [3, 5]),
    ]


async def test_what_a_call_is_to_explain_is_bounded(waiting: Waiting) -> None:
    movie_ids = np.arange(1, 101)
    explained = [
        RankingQuery(user, movie_ids, np.ones(100), bundle_id=BUNDLE, limit=100, explain_features=75)
        for user in (1, 2, 3)  # 7,500 contributions each, of 20,000
    ]
    asked = [*explained[:2], query(4), explained[2], query(5)]
    callers = [asyncio.create_task(waiting.queue.ask(one, seconds=PATIENT)) for one in asked]
    for number in (0, 1):
        (await waiting.cued.nth_call(number)).succeed()
    await asyncio.gather(*callers)
    assert [call.users for call in waiting.cued.calls] == [[1, 2, 4, 5], [3]]


async def test_a_call_has_the_request_id_of_its_first_query(waiting: Waiting) -> None:
    callers = []
    for user in (1, 2, 3):
        request_id.set(user)
        callers.append(waiting.ask(user))
    await settle()
    request_id.set(4)
    callers.append(waiting.ask(4))
    for number in (0, 1):
        (await waiting.cued.nth_call(number)).succeed()
    await asyncio.gather(*callers)
    assert [call.request_id for call in waiting.cued.calls] == [1, 4]


# Time.


async def test_a_slow_call_keeps_nobody_waiting() -> None:
    waiting = Waiting(replace(LIMITS, hold_seconds=0.01))
    slow = waiting.ask(1)
    await waiting.cued.nth_call(0)
    others = [waiting.ask(2), waiting.ask(3)]
    call = await waiting.cued.nth_call(1)
    assert call.users == [2, 3]
    call.succeed()
    assert await asyncio.gather(*others) == [2, 3]
    waiting.cued.calls[0].succeed()
    assert await slow == 1


async def test_a_query_with_little_time_is_sent_in_time_with_all_that_wait(waiting: Waiting) -> None:
    callers = [waiting.ask(1)]
    await waiting.cued.nth_call(0)
    callers += [waiting.ask(2), waiting.ask(3, seconds=0.2)]
    call = await waiting.cued.nth_call(1)
    assert call.users == [3, 2]
    assert not waiting.cued.calls[0].answer.done()
    for out in waiting.cued.calls:
        out.succeed()
    assert await asyncio.gather(*callers) == [1, 2, 3]


async def test_a_call_may_take_as_long_as_its_most_patient_caller(waiting: Waiting) -> None:
    callers = [waiting.ask(1, seconds=20.0), waiting.ask(2, seconds=40.0), waiting.ask(3, seconds=30.0)]
    call = await waiting.cued.nth_call(0)
    assert 30.0 < call.seconds <= 40.0
    call.succeed()
    await asyncio.gather(*callers)


async def test_each_caller_steps_down_when_its_own_time_is_up(waiting: Waiting) -> None:
    hasty, patient = waiting.ask(1, seconds=0.005), waiting.ask(2)
    call = await waiting.cued.nth_call(0)
    assert timeout(await failure(hasty))
    assert not call.cancelled
    call.succeed()
    assert await patient == 2


async def test_a_calls_own_timeout_does_not_pass_for_a_cancel(waiting: Waiting) -> None:
    caller = waiting.ask(1, seconds=0.005)
    call = await waiting.cued.nth_call(0)
    assert timeout(await failure(caller))
    await settle()
    assert not call.cancelled  # it is about to time out by itself, which the breaker is to hear of
    call.fail(failing(STAGE, FallbackReason.DEPENDENCY_TIMEOUT))
    await settle()
    assert waiting.cued.in_flight == 0


# Cancels.


async def cancelled(caller: asyncio.Task[int]) -> bool:
    caller.cancel()
    await asyncio.wait([caller])
    return caller.cancelled()


async def test_a_cancel_does_not_touch_the_neighbours(waiting: Waiting) -> None:
    callers = [waiting.ask(user) for user in (1, 2, 3)]
    call = await waiting.cued.nth_call(0)
    late = [waiting.ask(user) for user in (4, 5, 6)]
    await settle()
    assert await cancelled(callers[0])  # out, and the first
    assert await cancelled(late[1])  # waits
    call.succeed()
    assert [await callers[1], await callers[2]] == [2, 3]
    call = await waiting.cued.nth_call(1)
    assert call.users == [4, 6]
    call.succeed()
    assert [await late[0], await late[2]] == [4, 6]


async def test_a_call_without_callers_is_cancelled_and_the_next_leaves(waiting: Waiting) -> None:
    callers = [waiting.ask(1), waiting.ask(2, seconds=0.005)]
    call = await waiting.cued.nth_call(0)
    assert await cancelled(callers[0])
    other = waiting.ask(3)
    assert timeout(await failure(callers[1]))  # whose time is not the call's: that is much longer
    following = await waiting.cued.nth_call(1)
    assert call.cancelled
    assert following.users == [3]
    following.succeed()
    assert await other == 3


@pytest.mark.parametrize("turns", range(18))
async def test_a_caller_who_goes_around_the_begin_of_the_call(waiting: Waiting, turns: int) -> None:
    caller = waiting.ask(1)
    for _ in range(turns):
        await asyncio.sleep(0)
    assert await cancelled(caller)
    await settle()
    assert waiting.cued.in_flight == 0
    other = waiting.ask(2)
    await settle()
    assert waiting.cued.calls[-1].users == [2]
    waiting.cued.calls[-1].succeed()
    assert await other == 2


async def test_a_call_that_somebody_else_cancels_is_a_failure_of_each(waiting: Waiting) -> None:
    callers = [waiting.ask(1), waiting.ask(2)]
    call = await waiting.cued.nth_call(0)
    call.answer.cancel()  # as grpc does when a channel is closed
    for caller in callers:
        assert (await failure(caller)).reason is FallbackReason.DEPENDENCY_UNAVAILABLE
    await settle()
    assert waiting.cued.in_flight == 0


# Failures.


async def test_a_call_that_fails_fails_each_caller_alike(waiting: Waiting) -> None:
    callers = [waiting.ask(user) for user in (1, 2, 3)]
    error = failing(STAGE, FallbackReason.DEPENDENCY_OVERLOADED)
    (await waiting.cued.nth_call(0)).fail(error)
    for caller in callers:
        assert await failure(caller) == error.failure
    assert len(waiting.cued.calls) == 1


async def test_one_invalid_list_fails_one_caller(waiting: Waiting) -> None:
    callers = [waiting.ask(user) for user in (1, 2, 3)]
    call = await waiting.cued.nth_call(0)
    first, _, last = map(answer_to, call.queries)
    rubbish = failing(STAGE, FallbackReason.INVALID_RESPONSE).failure
    call.answer.set_result([first, rubbish, last])
    assert [await callers[0], await callers[2]] == [1, 3]
    assert await failure(callers[1]) == rubbish


REFUSED = InvalidQueryError(STAGE, FallbackReason.DEPENDENCY_UNAVAILABLE, "INVALID_ARGUMENT")


@pytest.mark.parametrize("error", [REFUSED, ZeroDivisionError()], ids=["refused", "defect"])
async def test_a_query_that_spoils_a_call_spoils_it_for_nobody_else(
    waiting: Waiting, error: Exception
) -> None:
    callers = [waiting.ask(user) for user in (1, 2, 3)]
    call = await waiting.cued.nth_call(0)
    callers.append(waiting.ask(4))
    await settle()
    call.fail(error)
    await waiting.cued.nth_call(1)
    callers += [waiting.ask(5), waiting.ask(6)]
    for number in range(1, 6):
        call = await waiting.cued.nth_call(number)
        assert waiting.cued.in_flight == 1
        if 2 in call.users:
            call.fail(error)
        else:
            call.succeed()
    assert [await caller for caller in callers if caller is not callers[1]] == [1, 3, 4, 5, 6]
    with pytest.raises(StageError if error is REFUSED else ZeroDivisionError):
        await callers[1]
    assert [call.users for call in waiting.cued.calls[1:]] == [[4], [1], [2], [3], [5, 6]]


async def test_who_is_asked_for_again_comes_before_who_still_waits() -> None:
    waiting = Waiting(replace(LIMITS, max_queries=2))
    callers = [waiting.ask(user) for user in (1, 2, 3, 4, 5)]
    (await waiting.cued.nth_call(0)).fail(REFUSED)
    for number in range(1, 5):
        (await waiting.cued.nth_call(number)).succeed()
    assert await asyncio.gather(*callers) == [1, 2, 3, 4, 5]
    assert [call.users for call in waiting.cued.calls] == [[1, 2], [3, 4], [1], [2], [5]]


async def test_a_query_that_may_be_invalid_is_sent_alone(waiting: Waiting) -> None:
    callers = [waiting.ask(user) for user in (1, 2, 3)]
    (await waiting.cued.nth_call(0)).fail(REFUSED)
    await waiting.cued.nth_call(1)
    callers.append(waiting.ask(4, seconds=0.2))  # in a hurry
    assert (await waiting.cued.nth_call(2)).users == [4]
    for number in (1, 2, 3, 4):
        (await waiting.cued.nth_call(number)).succeed()
    assert await asyncio.gather(*callers) == [1, 2, 3, 4]


async def test_whoever_has_gone_is_not_asked_for_again(waiting: Waiting) -> None:
    callers = [waiting.ask(user) for user in (1, 2, 3)]
    call = await waiting.cued.nth_call(0)
    assert await cancelled(callers[1])
    call.fail(REFUSED)
    for number in (1, 2):
        (await waiting.cued.nth_call(number)).succeed()
    assert [await callers[0], await callers[2]] == [1, 3]
    assert [call.users for call in waiting.cued.calls[1:]] == [[1], [3]]


# Whatever happens in whatever order.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from([BUNDLE, OTHER_BUNDLE])),
        st.tuples(st.sampled_from(["succeed", "fail", "refuse", "cancel", "turn"]), st.integers(0, 9)),
    ),
    max_size=60,
)


class Play:
    """Callers who come and go before a ranking stage that answers one way or another."""

    def __init__(self, limits: BatchLimits) -> None:
        self.waiting = Waiting(limits)
        self.callers: list[asyncio.Task[str]] = []
        self.bundles: list[str] = []
        self.unlucky: set[int] = set()
        self.gone: set[int] = set()

    @property
    def out(self) -> list[Call]:
        """The calls that have no answer yet."""
        return [call for call in self.waiting.cued.calls if not call.answer.done()]

    def arrive(self, bundle_id: str) -> None:
        """A caller comes."""
        self.callers.append(self.waiting.ask_of(len(self.callers), bundle_id))
        self.bundles.append(bundle_id)

    def cancel(self, number: int) -> None:
        """A caller goes, unless it has its answer."""
        if self.callers:
            user = number % len(self.callers)
            if self.callers[user].cancel():
                self.gone.add(user)

    def end(self, how: str, number: int = 0) -> None:
        """A call comes back."""
        if not self.out:
            return
        call = self.out[number % len(self.out)]
        if how == "succeed":
            call.succeed()
            return
        if how == "fail" or len(call.users) == 1:
            self.unlucky.update(call.users)
        call.fail(failing(STAGE) if how == "fail" else REFUSED)

    def outcome_is_right(self, user: int, outcome: object) -> bool:
        """Whether a caller got its own answer, or what befell it and nobody else."""
        if isinstance(outcome, asyncio.CancelledError):
            return user in self.gone
        if isinstance(outcome, StageError):
            return user in self.unlucky
        return outcome == self.bundles[user]


@given(steps=STEPS, max_calls=st.integers(1, 3), max_queries=st.integers(1, 4))
def test_in_whatever_order(steps: list[tuple[str, Any]], max_calls: int, max_queries: int) -> None:
    limits = BatchLimits(max_calls=max_calls, max_queries=max_queries, hold_seconds=PATIENT)
    asyncio.run(play(steps, limits))


async def play(steps: Sequence[tuple[str, Any]], limits: BatchLimits) -> None:
    game = Play(limits)
    for how, what in steps:
        if how == "arrive":
            game.arrive(what)
        elif how == "cancel":
            game.cancel(what)
        elif how == "turn":
            for _ in range(1 + what):
                await asyncio.sleep(0)
        else:
            game.end(how, what)
        assert game.waiting.cued.in_flight <= limits.max_calls + len(game.gone)  # the cancelled are going
    await settle()
    while game.out:
        game.end("succeed")
        await settle()
    outcomes = await asyncio.gather(*game.callers, return_exceptions=True)
    assert all(game.outcome_is_right(user, outcome) for user, outcome in enumerate(outcomes))
    assert game.waiting.cued.in_flight == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for call in game.waiting.cued.calls:
        assert 1 <= len(call.users) <= limits.max_queries
        assert {game.bundles[user] for user in call.users} == {call.bundle_id}
        assert call.users == sorted(call.users)  # in order of arrival
