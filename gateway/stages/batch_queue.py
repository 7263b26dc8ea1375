"""Queries that arrive while a call to their stage is in flight share the next one.

There is no timer to fill a batch by: an idle system adds next to nothing, a busy one batches by itself. Each
query keeps a deadline, a cancel and a failure of its own.
"""

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Final, Generic

from typing_extensions import override

from gateway.metrics import GatewayMetrics
from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from serving.limits import MAX_CONTRIBUTIONS
from serving.rpc.tracing import SHARED_WITH
from serving.stages.stage import (
    Answer,
    FallbackReason,
    InvalidQueryError,
    Query,
    Stage,
    StageError,
    StageFailure,
    unwrap,
)

_SETTLE_TURNS: Final = 10
"""Turns of the event loop that bring no other query before a call is sent.

From the socket to the queue a request takes some five of them: what has arrived by now shares the call. They
take microseconds when nothing else is to be done.
"""


@dataclass(frozen=True)
class BatchLimits:
    """When queries wait for each other, and how many share a call.

    No query waits for longer than half of its own time, unless its last batch was rejected.
    """

    max_calls: int
    """With as many calls in flight, queries wait."""
    max_queries: int
    """Most queries in one call."""
    hold_seconds: float
    """A call that has been in flight for longer no longer keeps queries waiting."""


@dataclass(eq=False, slots=True)
class _PendingRequest(Generic[Query, Answer]):
    """A query, and its caller's wait for the answer."""

    query: Query
    batch_key: str
    arrived: float
    """On the loop's clock, as all times here."""
    seconds: float
    """How long the caller waits before it steps down."""
    answer: asyncio.Future[Answer | StageFailure]
    """Done as well once the caller has gone."""
    context: Context = field(default_factory=copy_context)
    """The request's: its id is sent with the call."""
    alone: bool = False
    """Sent alone: its last batch was rejected."""
    call: "_Call[Query, Answer] | None" = None
    timer: asyncio.TimerHandle | None = None

    @property
    def ends(self) -> float:
        """When the caller steps down."""
        return self.arrived + self.seconds


@dataclass(eq=False)
class _Call(Generic[Query, Answer]):
    """A call in flight."""

    requests: Sequence[_PendingRequest[Query, Answer]]
    ends: float
    task: asyncio.Task[None] = field(init=False)
    hold: asyncio.TimerHandle = field(init=False)

    @property
    def is_awaited(self) -> bool:
        """Whether any of its callers is still there."""
        return not all(request.answer.done() for request in self.requests)


class BatchQueue(Stage[Query, Answer]):
    """A stage whose calls are shared by the queries that wait for it. Belongs to the loop that it is made in.

    Args:
        client: makes the calls.
        breaker: refuses calls while the stage keeps failing.
        limits: when to wait.
        metrics: where calls and waiting are counted.
    """

    def __init__(
        self,
        client: StageClient[Query, Answer],
        *,
        breaker: Breaker,
        limits: BatchLimits,
        metrics: GatewayMetrics,
    ) -> None:
        self._client = client
        self._codec = client.codec
        self._breaker = breaker
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._batch_size = metrics.stage_batch_size.labels(self._codec.name)
        self._wait_seconds = metrics.stage_wait_seconds.labels(self._codec.name)
        self._waiting: dict[_PendingRequest[Query, Answer], None] = {}  # an ordered set
        self._n_arrived = 0
        self._holding: set[_Call[Query, Answer]] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself only knows them weakly

    @override
    async def ask(self, query: Query, *, seconds: float) -> Answer:
        self._breaker.refuse_if_open()  # at once, and not after a wait behind a probe
        # Its types are told beside the call: in the call they would take longer than all the rest of it.
        request: _PendingRequest[Query, Answer] = _PendingRequest(
            query,
            self._codec.batch_key(query),
            arrived=self._loop.time(),
            seconds=seconds,
            answer=self._loop.create_future(),
        )
        self._waiting[request] = None
        self._n_arrived += 1
        self._loop.call_soon(self._dispatch_settled, self._n_arrived, _SETTLE_TURNS)
        request.timer = self._loop.call_at(request.arrived + seconds / 2, self._dispatch_early, request)
        try:
            return unwrap(await request.answer)
        except asyncio.CancelledError:
            self._abandon(request)
            raise
        finally:
            request.timer.cancel()
            request.call = None  # they refer to each other: else both stay until the next garbage collection

    def _dispatch_settled(self, n_arrived: int, turns: int) -> None:
        """Dispatches after so many turns of the loop that bring no other query, or once a call is full.

        Args:
            n_arrived: queries that had arrived before the turns began.
            turns: those that are left.
        """
        if turns and self._may_send and len(self._waiting) < self._limits.max_queries:
            if n_arrived == self._n_arrived:  # else it is for the turns of the latest query to dispatch
                self._loop.call_soon(self._dispatch_settled, n_arrived, turns - 1)
        else:
            self._dispatch()

    def _dispatch(self) -> None:
        """Sends what waits, as far as calls may be in flight."""
        while self._waiting and self._may_send:
            self._send(next(iter(self._waiting)))

    @property
    def _may_send(self) -> bool:
        return len(self._holding) < self._limits.max_calls

    def _dispatch_early(self, request: _PendingRequest[Query, Answer]) -> None:
        """Half of the caller's time is over: the query waits no longer."""
        request.timer = self._loop.call_at(request.ends, self._expire, request)
        if request in self._waiting:
            self._send(request)

    def _expire(self, request: _PendingRequest[Query, Answer]) -> None:
        """All of the caller's time is over."""
        if request.answer.done():
            return
        detail = "its share of the deadline passed"
        request.answer.set_result(StageFailure(self._codec.name, FallbackReason.DEPENDENCY_TIMEOUT, detail))
        if request.call is not None and request.ends == request.call.ends:
            return  # its own deadline ends the call now, and says so: a timeout is not to pass for a cancel
        self._abandon(request)

    def _abandon(self, request: _PendingRequest[Query, Answer]) -> None:
        """A caller has gone: a call without callers is cancelled, any other goes on."""
        self._waiting.pop(request, None)
        call = request.call
        if call is not None and not call.is_awaited:
            call.task.cancel()
            self._release(call)

    def _send(self, first: _PendingRequest[Query, Answer]) -> None:
        """Sends a query now, with all that may share its call."""
        requests = self._batch_with(first)
        call = _Call(requests, ends=max(request.ends for request in requests))
        now = self._loop.time()
        for request in requests:
            del self._waiting[request]
            request.call = call
            self._wait_seconds.observe(now - request.arrived)
        self._batch_size.observe(len(requests))
        context = first.context.copy()  # its own may be the one that runs: after a rejected batch
        context.run(SHARED_WITH.set, tuple(request.context for request in requests[1:]))
        call.task = self._loop.create_task(self._run_batch(call), context=context)
        call.hold = self._loop.call_later(self._limits.hold_seconds, self._release, call)
        self._holding.add(call)
        self._tasks.add(call.task)
        call.task.add_done_callback(self._tasks.discard)

    def _batch_with(self, first: _PendingRequest[Query, Answer]) -> list[_PendingRequest[Query, Answer]]:
        batch = [first]
        contributions = self._codec.contributions(first.query)
        for request in self._waiting if not first.alone else ():
            if len(batch) == self._limits.max_queries:
                break
            more = contributions + self._codec.contributions(request.query)
            fits = request.batch_key == first.batch_key and more <= MAX_CONTRIBUTIONS
            if fits and request is not first and not request.alone:
                batch.append(request)
                contributions = more
        return batch

    async def _run_batch(self, call: _Call[Query, Answer]) -> None:
        shared = len(call.requests) > 1
        try:
            answers = await self._ask(call)
        except asyncio.CancelledError:  # no caller is left, or the channel has been closed
            detail = "the call was cancelled"
            failure = StageFailure(self._codec.name, FallbackReason.DEPENDENCY_UNAVAILABLE, detail)
            self._deliver(call, [failure] * len(call.requests))
            raise
        except StageError as error:
            if shared and isinstance(error, InvalidQueryError):
                self._ask_apart(call)
            else:
                self._deliver(call, [error.failure] * len(call.requests))
        except Exception as error:  # noqa: BLE001  # a defect, for the caller whose query shows it
            if shared:
                self._ask_apart(call)
            elif not call.requests[0].answer.done():
                call.requests[0].answer.set_exception(error)
        else:
            self._deliver(call, answers)

    async def _ask(self, call: _Call[Query, Answer]) -> list[Answer | StageFailure]:
        queries = [request.query for request in call.requests]
        seconds = call.ends - self._loop.time()
        patience = max(request.seconds for request in call.requests)
        try:
            return await self._breaker.call(
                lambda: self._client.call(queries, seconds=seconds), patience=patience
            )
        finally:
            self._release(call)  # before anybody reads the answers: the stage works meanwhile

    def _deliver(self, call: _Call[Query, Answer], answers: Sequence[Answer | StageFailure]) -> None:
        for request, answer in zip(call.requests, answers, strict=True):
            if not request.answer.done():
                request.answer.set_result(answer)

    def _ask_apart(self, call: _Call[Query, Answer]) -> None:
        """Sends the queries again one by one, before all that wait: one of them made the stage reject all."""
        again = [request for request in call.requests if not request.answer.done()]
        for request in again:
            request.alone = True
            request.call = None
        self._waiting = dict.fromkeys(again) | self._waiting
        self._dispatch()

    def _release(self, call: _Call[Query, Answer]) -> None:
        """No query waits for this call any longer."""
        call.hold.cancel()
        self._holding.discard(call)
        self._dispatch()
