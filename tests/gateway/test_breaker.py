"""When a stage is left alone, and when it is asked again; on a clock that only the test moves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final

import pytest
from grpc import StatusCode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from typing_extensions import override

from gateway.metrics import GatewayMetrics
from gateway.stages.batch_queue import BatchQueue
from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from gateway.stages.direct import DirectStage
from movierec.candidate.v1 import candidate_service_pb2 as candidate
from serving.stages import candidate as candidate_stage
from serving.stages.candidate import CandidateList, CandidateQuery
from serving.stages.stage import (
    FAULTS,
    FallbackReason,
    InvalidQueryError,
    Stage,
    StageError,
    StageFailure,
    StageName,
)
from tests.gateway.scripted_stage import Behaviour, ScriptedStage, failing_with, saying, scripted_stage
from tests.gateway.small_world import ONE_CALL, candidates, settle
from tests.serving.server_under_test import until

STAGE: Final = StageName.RANKING
FULL: Final = 0.25
AMPLE: Final = 60.0  # seconds: no test is decided by it

UNAVAILABLE: Final = StageError(STAGE, FallbackReason.DEPENDENCY_UNAVAILABLE, "gone")
TIMEOUT: Final = StageError(STAGE, FallbackReason.DEPENDENCY_TIMEOUT)
MISMATCH: Final = StageError(STAGE, FallbackReason.BUNDLE_MISMATCH)
RUBBISH: Final = StageFailure(STAGE, FallbackReason.INVALID_RESPONSE, "expected unique movies")
GOOD_LIST: Final = candidates(3)
ANSWERS: Final = [GOOD_LIST]


class Guarded:
    """A breaker, its clock, and calls that end when the test says how."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.breaker = Breaker(
            STAGE, GatewayMetrics.create(self.registry), full_seconds=FULL, clock=lambda: self.now
        )

    async def call(self, outcome: object = None, *, patience: float = FULL) -> object:
        """Makes a call that ends so at once."""

        async def send() -> Any:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return await self.breaker.call(send, patience=patience)

    async def fail(self, times: int, error: Exception = UNAVAILABLE, *, patience: float = FULL) -> None:
        """Makes calls that fail."""
        for _ in range(times):
            with pytest.raises(type(error)) as caught:
                await self.call(error, patience=patience)
            assert caught.value is error  # made, and not refused

    async def succeed(self, times: int) -> None:
        """Makes calls that succeed."""
        for _ in range(times):
            assert await self.call(ANSWERS) == ANSWERS

    def leave(self) -> tuple[asyncio.Task[object], asyncio.Future[object]]:
        """Makes a call that stays out until its future is done."""
        end: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def send() -> Any:
            return await end

        return asyncio.ensure_future(self.breaker.call(send, patience=FULL)), end

    @property
    def is_open(self) -> bool:
        """Whether calls are refused or probes, as the metric tells."""
        return bool(self.registry.get_sample_value("movierec_breaker_open", {"service": STAGE}))

    def refuses(self) -> bool:
        """Whether no call may leave now."""
        try:
            self.breaker.refuse_if_open()
        except StageError:
            return True
        return False


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


# Closed to open.


async def test_the_fifth_failure_opens(guarded: Guarded) -> None:
    with capture_logs() as lines:
        await guarded.fail(4)
        assert not guarded.is_open
        await guarded.fail(1)
    assert guarded.is_open
    with pytest.raises(StageError) as caught:
        await guarded.call(ANSWERS)
    assert caught.value.failure == StageFailure(STAGE, UNAVAILABLE.failure.reason, "the breaker is open")
    said = {"event": "breaker opened", "log_level": "warning", "stage": "ranking", "failed": 5, "calls": 5}
    assert lines == [said | {"reason": "DEPENDENCY_UNAVAILABLE", "detail": "gone"}]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("good 4, " + "bad 1, good 1, " * 4 + "bad 3", id="half of all: 8 of 16"),
        pytest.param("good 1000, bad 4, good 1, bad 4", id="five in a row, however good it was before"),
        pytest.param("bad 4, wait 10, bad 4, wait 9.9", id="what was ten seconds ago is forgotten"),
        pytest.param("good 100, wait 10, good 3, bad 2", id="successes age, too: 3 of 6"),
    ],
)
async def test_one_more_failure_opens(guarded: Guarded, before: str) -> None:
    for step, number in (one.split() for one in before.split(", ")):
        if step == "wait":
            guarded.now += float(number)
        else:
            await (guarded.succeed if step == "good" else guarded.fail)(int(number))
    assert not guarded.is_open
    await guarded.fail(1)
    assert guarded.is_open


# What counts.


@pytest.mark.parametrize("reason", sorted(FAULTS - {FallbackReason.BUNDLE_MISMATCH}))
async def test_failures(guarded: Guarded, reason: FallbackReason) -> None:
    await guarded.fail(5, StageError(STAGE, reason))
    assert guarded.is_open
    with pytest.raises(StageError) as caught:
        guarded.breaker.refuse_if_open()
    assert caught.value.failure.reason is reason  # clients learn the cause, open or not


@pytest.mark.parametrize(
    "error",
    [MISMATCH, InvalidQueryError(STAGE, FallbackReason.DEPENDENCY_UNAVAILABLE), ZeroDivisionError()],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_no_failure_of_the_stage(guarded: Guarded, error: Exception) -> None:
    await guarded.fail(20, error)
    assert not guarded.is_open


async def test_an_answer_in_which_nothing_is_usable(guarded: Guarded) -> None:
    for _ in range(5):
        await guarded.call([GOOD_LIST, RUBBISH])  # for one of two
    assert not guarded.is_open
    for _ in range(5):
        await guarded.call([RUBBISH, RUBBISH])
    assert guarded.is_open


async def test_impatience_is_no_failure(guarded: Guarded) -> None:
    await guarded.fail(20, TIMEOUT, patience=FULL - 0.001)
    assert not guarded.is_open
    await guarded.fail(5, TIMEOUT, patience=FULL)
    assert guarded.is_open


# Open to closed.


async def opened(guarded: Guarded) -> None:
    await guarded.fail(5)
    assert guarded.refuses()


async def test_one_probe_after_a_second(guarded: Guarded) -> None:
    await opened(guarded)
    guarded.now += 0.999
    assert guarded.refuses()
    guarded.now += 0.001
    probe, end = guarded.leave()
    await settle()
    assert guarded.refuses()  # one is enough
    guarded.now += 100
    assert guarded.refuses()
    with capture_logs() as lines:
        end.set_result(ANSWERS)
        assert await probe == ANSWERS
    assert (guarded.is_open, guarded.refuses()) == (False, False)
    assert lines == [{"event": "breaker closed", "log_level": "info", "stage": "ranking"}]
    await guarded.fail(4)  # what was before is forgotten
    assert not guarded.is_open


async def test_a_probe_that_fails_starts_another_second(guarded: Guarded) -> None:
    await opened(guarded)
    with capture_logs() as lines:
        for _ in range(3):
            guarded.now += 1
            await guarded.fail(1, TIMEOUT)
            assert (guarded.is_open, guarded.refuses()) == (True, True)
            guarded.now += 0.999
            assert guarded.refuses()
    assert not lines  # it has been said once
    with pytest.raises(StageError) as caught:
        guarded.breaker.refuse_if_open()
    assert caught.value.failure.reason is FallbackReason.DEPENDENCY_TIMEOUT  # what is wrong by now


async def test_a_probe_that_says_nothing_leaves_the_place_to_the_next(guarded: Guarded) -> None:
    await opened(guarded)
    guarded.now += 1
    probe, _end = guarded.leave()
    await settle()
    probe.cancel()
    await asyncio.wait([probe])
    assert (guarded.is_open, guarded.refuses()) == (True, False)
    await guarded.fail(1, TIMEOUT, patience=0.01)
    assert (guarded.is_open, guarded.refuses()) == (True, False)
    await guarded.succeed(1)
    assert not guarded.is_open


async def test_a_mismatch_is_an_answer_to_a_probe(guarded: Guarded) -> None:
    await opened(guarded)
    guarded.now += 1
    await guarded.fail(1, MISMATCH)
    assert not guarded.is_open


async def test_calls_of_before_change_nothing(guarded: Guarded) -> None:
    early = [guarded.leave() for _ in range(12)]
    await settle()
    await opened(guarded)
    early[0][1].set_result(ANSWERS)  # left when it was closed
    await early[0][0]
    assert guarded.refuses()
    guarded.now += 1
    probe, end = guarded.leave()
    await settle()
    early[1][1].set_exception(UNAVAILABLE)
    await asyncio.wait([early[1][0]])
    end.set_result(ANSWERS)
    await probe
    assert not guarded.is_open
    for task, late in early[2:]:
        late.set_exception(UNAVAILABLE)
        await asyncio.wait([task])
        task.exception()
    assert not guarded.is_open  # ten failures, all of calls that left before it closed
    early[1][0].exception()


# Whatever happens in whatever order.


class Model(RuleBasedStateMachine):
    """The rules in other words: lists of all calls, searched from the start each time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.guarded = Guarded()
        self.out: list[tuple[asyncio.Task[object], asyncio.Future[object], int, bool]] = []
        self.ended: list[tuple[float, bool]] = []
        self.era = 0
        self.opened_at: float | None = None

    def may_leave(self) -> bool:
        """Whether a call may leave now."""
        if self.opened_at is None:
            return True
        probe_is_out = any(probe and era == self.era for _, _, era, probe in self.out)
        return not probe_is_out and self.guarded.now >= self.opened_at + 1

    def run(self, awaitable: Awaitable[Any]) -> None:
        """Lets something come to its end, whichever."""

        async def to_the_end() -> None:
            await asyncio.wait([asyncio.ensure_future(awaitable)])

        self.loop.run_until_complete(to_the_end())

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 4.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        """The clock goes on."""
        self.guarded.now += seconds

    @rule()
    def a_call_leaves(self) -> None:
        """A call is made, or refused."""

        async def leave() -> tuple[asyncio.Task[object], asyncio.Future[object]]:
            left = self.guarded.leave()
            await settle()
            return left

        allowed, probe = self.may_leave(), self.opened_at is not None
        task, end = self.loop.run_until_complete(leave())
        assert task.done() != allowed
        if allowed:
            self.out.append((task, end, self.era, probe))
        else:
            assert isinstance(task.exception(), StageError)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ending=st.sampled_from(["answer", "failure", "failure", "mismatch", "cancel"]))
    def a_call_ends(self, data: st.DataObject, ending: str) -> None:
        """A call that is out ends."""
        task, end, era, probe = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if ending == "answer":
            end.set_result(ANSWERS)
        elif ending == "failure":
            end.set_exception(UNAVAILABLE)
        elif ending == "mismatch":
            end.set_exception(MISMATCH)
        else:
            task.cancel()
        self.run(task)
        _ = task.cancelled() or task.exception()
        if era != self.era or ending == "cancel":
            return
        failed = ending == "failure"
        now = self.guarded.now
        if probe:
            self.opened_at = now if failed else None
        else:
            self.ended.append((now, failed))
            recent = [failure for moment, failure in self.ended if moment > now - 10]
            enough = len(recent) >= 5 and (sum(recent) * 2 >= len(recent) or all(recent[-5:]))
            self.opened_at = now if failed and enough else None
        if (self.opened_at is not None) != probe:
            self.era += 1
            self.ended = []

    @invariant()
    def both_agree(self) -> None:
        """The breaker is open, and refuses, when it should."""
        assert self.guarded.is_open == (self.opened_at is not None)
        assert self.guarded.refuses() != self.may_leave()

    @override
    def teardown(self) -> None:
        for task, *_ in self.out:
            task.cancel()
        self.run(settle())
        self.loop.close()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=15, stateful_step_count=50)


# Over a real channel. Which reason a status stands for, test_clients.py shows.


class Gateway:
    """Stage one as the gateway asks it, with its breaker, before a scripted stage."""

    def __init__(self, stage: ScriptedStage, channel: Any, *, shared: bool) -> None:
        self.stage = stage
        self.now = 1000.0
        metrics = GatewayMetrics.create(CollectorRegistry())
        self._breaker = Breaker(StageName.CANDIDATE, metrics, full_seconds=FULL, clock=lambda: self.now)
        client = StageClient(candidate_stage.CODEC, channel, metrics)
        self._stage: Stage[CandidateQuery, CandidateList] = (
            BatchQueue(client, breaker=self._breaker, limits=ONE_CALL, metrics=metrics)
            if shared
            else DirectStage(client, self._breaker)
        )

    async def ask(self, *, users: int = 1, seconds: float = AMPLE) -> list[object]:
        """What so many callers get: answers, or why there is none."""
        asks = [self._stage.ask(CandidateQuery(user_id=7, limit=3), seconds=seconds) for _ in range(users)]
        return list(await asyncio.gather(*asks, return_exceptions=True))

    async def refusal(self) -> StageFailure:
        """Why a caller gets no answer."""
        (refused,) = await self.ask()
        assert isinstance(refused, StageError)
        return refused.failure

    async def open(self, behave: Behaviour) -> None:
        """Makes five calls that end so."""
        self.stage.behave = behave
        for _ in range(5):
            assert not self.is_open
            await self.ask()
        assert self.is_open

    @property
    def is_open(self) -> bool:
        """Whether the stage is left alone."""
        return self._breaker.failure is not None


@pytest.fixture(params=[True, False], ids=["shared calls", "calls of one query"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    async with scripted_stage() as (stage, channel):
        yield Gateway(stage, channel, shared=request.param)


@pytest.mark.row(3)
async def test_rubbish_and_recovery(gateway: Gateway) -> None:
    await gateway.open(saying(b""))
    nobody = candidate.CandidateList(user_vector=candidate.USER_VECTOR_NONE)
    gateway.stage.behave = saying(candidate.GenerateCandidatesResponse(lists=[nobody], bundle_id="b"))
    assert await gateway.refusal() == StageFailure(
        StageName.CANDIDATE, FallbackReason.INVALID_RESPONSE, "the breaker is open"
    )
    assert len(gateway.stage.requests) == 5
    gateway.now += 1
    (answer,) = await gateway.ask()
    assert not isinstance(answer, Exception)
    assert not gateway.is_open


async def test_a_call_counts_once_however_many_travel() -> None:
    async with scripted_stage() as (stage, channel):
        gateway = Gateway(stage, channel, shared=True)
        stage.behave = failing_with(StatusCode.UNAVAILABLE)
        await gateway.ask(users=32)
        assert len(stage.requests) == 1
        assert not gateway.is_open


async def test_nobody_waits_behind_a_probe(gateway: Gateway) -> None:
    await gateway.open(failing_with(StatusCode.UNAVAILABLE))
    gateway.now += 1
    gateway.stage.entered.clear()
    gateway.stage.behave = gateway.stage.hang
    probe = asyncio.create_task(gateway.ask())
    await gateway.stage.entered.wait()
    await gateway.refusal()  # at once: the probe's time is ample
    assert not probe.done()
    probe.cancel()
    await asyncio.wait([probe])


@pytest.mark.row(5)
async def test_a_frozen_stage() -> None:
    async with scripted_stage() as (stage, channel):
        gateway = Gateway(stage, channel, shared=False)
        stage.behave = stage.hang
        for seconds in (FULL / 5,) * 6:  # clients in a hurry
            await gateway.ask(seconds=seconds)
        assert not gateway.is_open
        for _ in range(5):
            await gateway.ask(seconds=FULL)
        await until(lambda: gateway.is_open)  # calls end a moment after their callers
        assert (await gateway.refusal()).reason is FallbackReason.DEPENDENCY_TIMEOUT
