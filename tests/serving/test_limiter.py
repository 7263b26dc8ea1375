"""Which calls get places, which wait, which are refused. Nothing waits for a clock."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from serving.errors import OverloadedError
from serving.limiter import Limiter, Priority

FIRST, NORMAL, LAST = Priority


class Calls:
    """Calls before a limiter, by name."""

    def __init__(self, places: int) -> None:
        self.limiter = Limiter(places)
        self.at_work: list[str] = []
        self.refused: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._finish: dict[str, asyncio.Event] = {}

    async def start(self, name: str, users: int = 1, priority: Priority = NORMAL) -> None:
        """Starts a call, which holds its places until it is told to finish."""
        self._finish[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name, users, priority))
        await turns()

    async def finish(self, name: str) -> None:
        """Ends a call that is at work."""
        self._finish[name].set()
        await turns()

    async def cancel(self, name: str) -> None:
        """Cancels a call, at work or waiting."""
        self.tasks[name].cancel()
        await turns()

    async def _run(self, name: str, users: int, priority: Priority) -> None:
        try:
            async with holding(self.limiter, users, priority):
                self.at_work.append(name)
                try:
                    await self._finish[name].wait()
                finally:
                    self.at_work.remove(name)
        except OverloadedError:
            self.refused.append(name)


@asynccontextmanager
async def holding(limiter: Limiter, users: int = 1, priority: Priority = NORMAL) -> AsyncIterator[None]:
    """Holds places while the block runs."""
    places = await limiter.take(users, priority)
    try:
        yield
    finally:
        limiter.give_back(places)


async def turns() -> None:
    """Lets every task go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_then_a_queue_then_no_more() -> None:
    calls = Calls(2)
    for name in "abcde":
        await calls.start(name)
    assert (calls.at_work, calls.refused) == (["a", "b"], ["e"])
    assert (calls.limiter.users_at_work, calls.limiter.users_waiting) == (2, 2)
    await calls.finish("b")
    assert calls.at_work == ["a", "c"]
    await calls.finish("a")
    await calls.finish("c")
    await calls.finish("d")
    assert (calls.limiter.users_at_work, calls.limiter.users_waiting) == (0, 0)


async def test_who_is_cancelled_as_its_turn_comes_holds_no_place() -> None:
    limiter = Limiter(1)

    async def work() -> None:
        async with holding(limiter):
            await asyncio.Event().wait()

    async with holding(limiter):
        waiting = asyncio.create_task(work())
        await turns()
    assert limiter.users_at_work == 1  # its turn has come, and it does not know yet
    waiting.cancel()
    await turns()
    assert limiter.users_at_work == 0


async def test_full_is_told_before_the_number_of_users_is_known() -> None:
    calls = Calls(1)
    calls.limiter.refuse_if_full(NORMAL)
    await calls.start("in")
    calls.limiter.refuse_if_full(NORMAL)
    await calls.start("waiting")
    for priority in (NORMAL, LAST):
        with pytest.raises(OverloadedError):
            calls.limiter.refuse_if_full(priority)
    calls.limiter.refuse_if_full(FIRST)


async def test_work_without_a_pause_is_limited_too() -> None:
    limiter = Limiter(2)
    done = []

    async def call(number: int) -> None:
        async with holding(limiter):
            done.append(number)

    ends = await asyncio.gather(*map(call, range(10)), return_exceptions=True)
    assert done == [0, 1, 2, 3]
    assert [type(end) for end in ends[4:]] == [OverloadedError] * 6


@pytest.fixture
def _quick_switches() -> Iterator[None]:
    """Lets threads take turns after every few steps."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_quick_switches")
async def test_another_thread_may_read_at_any_moment() -> None:
    """That of the metrics does, and met a dictionary that had changed meanwhile."""
    calls = Calls(50)
    await calls.start("in", users=50)
    over = False

    def read() -> None:
        while not over:
            assert 0 <= calls.limiter.users_waiting <= 50

    reading = asyncio.create_task(asyncio.to_thread(read))
    for _ in range(20):
        for number in range(50):
            await calls.start(str(number))
        for number in range(50):
            await calls.cancel(str(number))
    over = True
    await reading


class Model(RuleBasedStateMachine):
    """The rules in other words."""

    PLACES: Final = 6

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.calls = Calls(self.PLACES)
        self.n_started = 0
        self.users: dict[str, int] = {}
        self.at_work: list[str] = []
        self.waiting: list[tuple[Priority, int, str]] = []
        self.refused: set[str] = set()

    @rule(users=st.integers(0, 8), priority=st.sampled_from(Priority))
    def start(self, users: int, priority: Priority) -> None:
        """A call starts."""
        name = str(self.n_started)
        self.n_started += 1
        self.users[name] = max(1, min(users, self.PLACES))
        before = sum(self.users[other] for line, _, other in self.waiting if line <= priority)
        if before + self.users[name] > self.PLACES:
            self.refused.add(name)
        else:
            self.waiting.append((priority, self.n_started, name))
            self.let_in()
            while sum(self.users[other] for *_, other in self.waiting) > self.PLACES:
                self.refused.add(self.waiting.pop()[2])
        self.loop.run_until_complete(self.calls.start(name, users, priority))

    @precondition(lambda self: self.at_work)
    @rule(data=st.data(), cancelled=st.booleans())
    def finish(self, data: st.DataObject, *, cancelled: bool) -> None:
        """A call at work ends."""
        name = data.draw(st.sampled_from(self.at_work))
        self.at_work.remove(name)
        self.let_in()
        self.loop.run_until_complete(self.calls.cancel(name) if cancelled else self.calls.finish(name))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_waiting(self, data: st.DataObject) -> None:
        """A waiting call is cancelled."""
        cancelled = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(cancelled)
        self.let_in()
        self.loop.run_until_complete(self.calls.cancel(cancelled[2]))

    @precondition(lambda self: self.at_work and self.waiting)
    @rule(data=st.data())
    def cancel_what_was_let_in(self, data: st.DataObject) -> None:
        """A waiting call is cancelled in the moment in which one at work ends."""
        out, next_in = data.draw(st.sampled_from(self.at_work)), data.draw(st.sampled_from(self.waiting))

        async def both() -> None:
            self.calls.tasks[out].cancel()
            self.calls.tasks[next_in[2]].cancel()
            await turns()

        self.at_work.remove(out)
        self.waiting.remove(next_in)
        self.let_in()
        self.loop.run_until_complete(both())

    def let_in(self) -> None:
        """Waiting calls get places, in order, while they fit."""
        self.waiting.sort()
        while self.waiting and self.taken + self.users[self.waiting[0][2]] <= self.PLACES:
            self.at_work.append(self.waiting.pop(0)[2])

    @property
    def taken(self) -> int:
        """Places taken."""
        return sum(self.users[name] for name in self.at_work)

    @invariant()
    def both_agree(self) -> None:
        """The limiter does what the rules say."""
        assert set(self.calls.at_work) == set(self.at_work)
        assert set(self.calls.refused) == self.refused
        assert self.calls.limiter.users_at_work == self.taken
        assert self.calls.limiter.users_waiting == sum(self.users[name] for *_, name in self.waiting)

    @override
    def teardown(self) -> None:
        for task in self.calls.tasks.values():
            task.cancel()
        self.loop.run_until_complete(turns())
        assert (self.calls.limiter.users_at_work, self.calls.limiter.users_waiting) == (0, 0)
        self.loop.close()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)
