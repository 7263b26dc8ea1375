"""What waits for a stage travels as one call: the fuller the house, the cheaper a guest.

Whoever arrives while a call is out waits for it to come back, and leaves as part of the next one. There is no
timer to collect company by: an idle system adds nothing, a busy one batches by itself. Each query keeps a
deadline, a cancel and a failure of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from typing_extensions import override

from gateway.breaker import Breaker
from gateway.fallback import FallbackReason
from gateway.metrics import GatewayMetrics
from gateway.ports import (
    CandidateAnswer,
    CandidateQuery,
    CandidateStage,
    RankingAnswer,
    RankingQuery,
    RankingStage,
    RefusedError,
    Stage,
    StageError,
    StageFailure,
    usable,
)
from serving.company import COMPANY

Query = TypeVar("Query")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class CallLimits:
    """When queries wait for each other, and how many share a call.

    Nobody waits for longer than half of its own time: what is left is for the stage.
    """

    max_calls: int
    """With as many calls out, whoever arrives waits."""
    max_queries: int
    """Most queries in one call."""
    hold_seconds: float
    """A call that has been out for longer no longer keeps others waiting."""


class BatchingCandidates(CandidateStage):
    """Stage one, asked for several callers at once.

    Args:
        stage: makes the calls.
        breaker: refuses them while the stage keeps failing.
        limits: when to wait.
        metrics: where calls and waiting are counted.
    """

    def __init__(
        self, stage: CandidateStage, *, breaker: Breaker, limits: CallLimits, metrics: GatewayMetrics
    ) -> None:
        async def send(queries: Sequence[CandidateQuery], _bundle_id: str, seconds: float) -> CandidateAnswer:
            return await stage.generate(queries, seconds=seconds)

        def part(answer: CandidateAnswer, places: slice) -> CandidateAnswer:
            return replace(answer, lists=answer.lists[places])

        self._line = _Line(Stage.CANDIDATE, send, part, breaker=breaker, limits=limits, metrics=metrics)

    @override
    async def generate(self, queries: Sequence[CandidateQuery], *, seconds: float) -> CandidateAnswer:
        return await self._line.answer(queries, bundle_id="", seconds=seconds)


class BatchingRanking(RankingStage):
    """Stage two, asked for several callers at once; queries for different bundles never share a call.

    Args:
        stage: makes the calls.
        breaker: refuses them while the stage keeps failing.
        limits: when to wait.
        metrics: where calls and waiting are counted.
    """

    def __init__(
        self, stage: RankingStage, *, breaker: Breaker, limits: CallLimits, metrics: GatewayMetrics
    ) -> None:
        async def send(queries: Sequence[RankingQuery], bundle_id: str, seconds: float) -> RankingAnswer:
            return await stage.rank(queries, bundle_id=bundle_id, seconds=seconds)

        def part(answer: RankingAnswer, places: slice) -> RankingAnswer:
            return replace(answer, lists=answer.lists[places])

        self._line = _Line(Stage.RANKING, send, part, breaker=breaker, limits=limits, metrics=metrics)

    @override
    async def rank(self, queries: Sequence[RankingQuery], *, bundle_id: str, seconds: float) -> RankingAnswer:
        return await self._line.answer(queries, bundle_id=bundle_id, seconds=seconds)


@dataclass(eq=False)
class _Passenger(Generic[Query, Answer]):
    """One caller's queries, which stay together, and the caller's wait for them."""

    queries: Sequence[Query]
    bundle_id: str
    arrived: float
    """On the loop's clock, as all times here."""
    seconds: float
    """How long the caller waits before it steps down."""
    answer: asyncio.Future[Answer | StageFailure]
    """Done as well once the caller has gone."""
    context: Context = field(default_factory=copy_context)
    """The request's: its id travels with the call."""
    alone: bool = False
    """Takes no company: one of the last did not agree with the stage."""
    call: "_Call[Query, Answer] | None" = None

    @property
    def ends(self) -> float:
        """When the caller steps down."""
        return self.arrived + self.seconds


@dataclass(eq=False)
class _Call(Generic[Query, Answer]):
    """A call that is out."""

    passengers: Sequence[_Passenger[Query, Answer]]
    ends: float
    task: asyncio.Task[None] = field(init=False)
    hold: asyncio.TimerHandle = field(init=False)

    @property
    def waited_for(self) -> bool:
        """Whether any of its callers is still there."""
        return not all(passenger.answer.done() for passenger in self.passengers)


class _Line(Generic[Query, Answer]):
    """Those who wait for one stage, in order, and the calls they leave in.

    Args:
        stage: its name.
        send: makes one call of queries for one bundle, which may take so many seconds.
        part: the answer to some of a call's queries, by their places.
        breaker: refuses calls while the stage keeps failing.
        limits: when to wait.
        metrics: where calls and waiting are counted.
    """

    def __init__(
        self,
        stage: Stage,
        send: Callable[[Sequence[Query], str, float], Awaitable[Answer]],
        part: Callable[[Answer, slice], Answer],
        *,
        breaker: Breaker,
        limits: CallLimits,
        metrics: GatewayMetrics,
    ) -> None:
        self._stage = stage
        self._send = send
        self._part = part
        self._breaker = breaker
        self._limits = limits
        self._batch_size = metrics.stage_batch_size.labels(stage)
        self._wait_seconds = metrics.stage_wait_seconds.labels(stage)
        self._waiting: dict[_Passenger[Query, Answer], None] = {}  # an ordered set
        self._holding: set[_Call[Query, Answer]] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself only knows them weakly

    async def answer(self, queries: Sequence[Query], *, bundle_id: str, seconds: float) -> Answer:
        """The answer to a caller's queries, alone or in company.

        Raises:
            StageError: there is none, or none within `seconds`.
        """
        self._breaker.refuse_if_open()  # at once, and not after a wait behind a probe
        loop = asyncio.get_running_loop()
        now = loop.time()
        passenger = _Passenger[Query, Answer](
            queries, bundle_id, arrived=now, seconds=seconds, answer=loop.create_future()
        )
        self._waiting[passenger] = None
        loop.call_soon(self._depart)  # not at once: who arrives in this turn of the loop comes along
        hurry = loop.call_at(now + seconds / 2, self._hurry, passenger)
        try:
            async with asyncio.timeout_at(passenger.ends):
                return usable(await passenger.answer)
        except TimeoutError:
            self._step_off(passenger, late=True)
            detail = "its share of the deadline passed"
            raise StageError(self._stage, FallbackReason.DEPENDENCY_TIMEOUT, detail) from None
        except asyncio.CancelledError:
            self._step_off(passenger, late=False)
            raise
        finally:
            hurry.cancel()

    def _depart(self) -> None:
        while self._waiting and len(self._holding) < self._limits.max_calls:
            self._board(next(iter(self._waiting)))

    def _hurry(self, passenger: _Passenger[Query, Answer]) -> None:
        if passenger in self._waiting:
            self._board(passenger)

    def _board(self, first: _Passenger[Query, Answer]) -> None:
        """Lets a passenger leave now, with all the company that there is."""
        loop = asyncio.get_running_loop()
        passengers = self._company(first)
        call = _Call(passengers, ends=max(passenger.ends for passenger in passengers))
        now = loop.time()
        for passenger in passengers:
            del self._waiting[passenger]
            passenger.call = call
            self._wait_seconds.observe(now - passenger.arrived)
        self._batch_size.observe(sum(len(passenger.queries) for passenger in passengers))
        context = first.context.copy()  # its own may be the one that runs: after a refusal
        context.run(COMPANY.set, tuple(passenger.context for passenger in passengers[1:]))
        call.task = asyncio.create_task(self._travel(call), context=context)
        call.hold = loop.call_later(self._limits.hold_seconds, self._let_go, call)
        self._holding.add(call)
        self._tasks.add(call.task)
        call.task.add_done_callback(self._tasks.discard)

    def _company(self, first: _Passenger[Query, Answer]) -> list[_Passenger[Query, Answer]]:
        passengers = [first]
        room = self._limits.max_queries - len(first.queries)  # whoever has more than that travels alone
        for passenger in self._waiting:
            if room <= 0 or first.alone:
                break
            agrees = passenger.bundle_id == first.bundle_id and not passenger.alone
            if agrees and passenger is not first and len(passenger.queries) <= room:
                passengers.append(passenger)
                room -= len(passenger.queries)
        return passengers

    async def _travel(self, call: _Call[Query, Answer]) -> None:
        in_company = len(call.passengers) > 1
        try:
            answer = await self._ask(call)
        except asyncio.CancelledError:  # nobody waits any more, or the channel has been closed
            detail = "the call was cancelled"
            self._fail(call, StageFailure(self._stage, FallbackReason.DEPENDENCY_UNAVAILABLE, detail))
            raise
        except StageError as error:
            if isinstance(error, RefusedError) and in_company:
                self._ask_apart(call)
            else:
                self._fail(call, error.failure)
        except Exception as error:  # noqa: BLE001  # a defect, for the caller whose query shows it
            if in_company:
                self._ask_apart(call)
            elif not call.passengers[0].answer.done():
                call.passengers[0].answer.set_exception(error)
        else:
            self._deliver(call, answer)

    async def _ask(self, call: _Call[Query, Answer]) -> Answer:
        first = call.passengers[0]
        queries = [query for passenger in call.passengers for query in passenger.queries]
        seconds = call.ends - asyncio.get_running_loop().time()
        patience = max(passenger.seconds for passenger in call.passengers)
        try:
            return await self._breaker.call(
                lambda: self._send(queries, first.bundle_id, seconds), patience=patience
            )
        finally:
            self._let_go(call)  # before anybody reads the answer: the stage works meanwhile

    def _deliver(self, call: _Call[Query, Answer], answer: Answer) -> None:
        start = 0
        for passenger in call.passengers:
            end = start + len(passenger.queries)
            if not passenger.answer.done():
                passenger.answer.set_result(self._part(answer, slice(start, end)))
            start = end

    def _fail(self, call: _Call[Query, Answer], failure: StageFailure) -> None:
        for passenger in call.passengers:
            if not passenger.answer.done():
                passenger.answer.set_result(failure)

    def _ask_apart(self, call: _Call[Query, Answer]) -> None:
        """Sends the passengers again one by one, before all who wait: one of them spoilt the call for all."""
        again = [passenger for passenger in call.passengers if not passenger.answer.done()]
        for passenger in again:
            passenger.alone = True
            passenger.call = None
        self._waiting = dict.fromkeys(again) | self._waiting
        self._depart()

    def _let_go(self, call: _Call[Query, Answer]) -> None:
        """Keeps nobody waiting for this call any longer."""
        call.hold.cancel()
        self._holding.discard(call)
        self._depart()

    def _step_off(self, passenger: _Passenger[Query, Answer], *, late: bool) -> None:
        """A caller has gone: its neighbours travel on, and a call without callers is cancelled.

        Args:
            passenger: who has gone.
            late: its time was up.
        """
        self._waiting.pop(passenger, None)
        call = passenger.call
        if call is None or call.waited_for:
            return
        if late and passenger.ends == call.ends:
            return  # its own deadline ends the call now, and says so: a timeout is not to pass for a cancel
        call.task.cancel()
        self._let_go(call)
