"""Who gets in, who waits, who is refused. Nothing waits for a clock."""

import asyncio
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from serving.errors import OverloadedError
from serving.limiter import Limiter, Priority

FIRST, NORMAL, LAST = Priority


class House:
    """Guests of a limiter, by name."""

    def __init__(self, places: int) -> None:
        self.limiter = Limiter(places)
        self.at_work: list[str] = []
        self.refused: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}

    async def arrive(self, name: str, users: int = 1, priority: Priority = NORMAL) -> None:
        """Somebody comes, and stays once in."""
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._visit(name, users, priority))
        await turns()

    async def leave(self, name: str) -> None:
        """Somebody who is in has done."""
        self._leave[name].set()
        await turns()

    async def cancel(self, name: str) -> None:
        """Somebody gives up, in or out."""
        self.tasks[name].cancel()
        await turns()

    async def _visit(self, name: str, users: int, priority: Priority) -> None:
        try:
            async with self.limiter.places(users, priority):
                self.at_work.append(name)
                try:
                    await self._leave[name].wait()
                finally:
                    self.at_work.remove(name)
        except OverloadedError:
            self.refused.append(name)


async def turns() -> None:
    """Lets everybody go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_then_a_queue_then_no_more() -> None:
    house = House(2)
    for name in "abcde":
        await house.arrive(name)
    assert (house.at_work, house.refused) == (["a", "b"], ["e"])
    assert (house.limiter.users_at_work, house.limiter.users_waiting) == (2, 2)
    await house.leave("b")
    assert house.at_work == ["a", "c"]
    await house.leave("a")
    await house.leave("c")
    await house.leave("d")
    assert (house.limiter.users_at_work, house.limiter.users_waiting) == (0, 0)


async def test_a_call_takes_a_place_per_user() -> None:
    house = House(8)
    await house.arrive("five", 5)
    await house.arrive("four", 4)
    await house.arrive("three", 3)  # there is room, but nobody overtakes
    assert (house.at_work, house.limiter.users_waiting) == (["five"], 7)
    await house.arrive("two", 2)
    assert house.refused == ["two"]
    await house.leave("five")
    assert house.at_work == ["four", "three"]


async def test_one_with_more_users_than_places_takes_all() -> None:
    house = House(4)
    await house.arrive("one")
    await house.arrive("hundred", 100)
    assert (house.at_work, house.limiter.users_waiting) == (["one"], 4)
    await house.leave("one")
    assert (house.at_work, house.limiter.users_at_work) == (["hundred"], 4)
    await house.arrive("another")
    await house.leave("hundred")
    assert house.at_work == ["another"]


async def test_one_without_users_takes_a_place() -> None:
    house = House(1)
    await house.arrive("nobody", 0)
    assert house.limiter.users_at_work == 1


async def test_the_urgent_pass_those_who_wait() -> None:
    house = House(4)
    await house.arrive("all", 4)
    await house.arrive("batch", 1, LAST)
    await house.arrive("personal", 1, NORMAL)
    await house.arrive("movie", 1, FIRST)
    await house.arrive("another movie", 1, FIRST)
    await house.leave("all")
    assert house.at_work == ["movie", "another movie", "personal", "batch"]


async def test_the_urgent_get_the_room_of_the_last() -> None:
    house = House(2)
    await house.arrive("at work", 2)
    for name, priority in (("batch", LAST), ("later batch", LAST)):
        await house.arrive(name, 1, priority)
    await house.arrive("personal")
    assert house.refused == ["later batch"]
    await house.arrive("another personal")
    await house.arrive("movie", 1, FIRST)
    assert house.refused == ["later batch", "batch", "another personal"]
    await house.arrive("too late a personal")  # the movie and a personal wait
    assert house.refused[3:] == ["too late a personal"]


async def test_free_places_are_not_kept_for_a_large_call_that_is_less_urgent() -> None:
    house = House(4)
    await house.arrive("personal")
    await house.arrive("batch", 4, LAST)
    await house.arrive("another")
    assert (house.at_work, house.limiter.users_waiting) == (["personal", "another"], 4)


async def test_who_gives_up_leaves_no_trace() -> None:
    house = House(4)
    for name, users in (("in", 2), ("large", 3), ("small", 1)):
        await house.arrive(name, users)
    assert house.at_work == ["in"]
    await house.cancel("large")  # stood in the way of the small one
    assert (house.at_work, house.limiter.users_waiting) == (["in", "small"], 0)
    await house.cancel("in")
    await house.cancel("small")
    assert house.limiter.users_at_work == 0
    assert not house.refused


async def test_full_is_told_before_the_number_of_users_is_known() -> None:
    house = House(1)
    house.limiter.refuse_if_full(NORMAL)
    await house.arrive("in")
    house.limiter.refuse_if_full(NORMAL)
    await house.arrive("waiting")
    for priority in (NORMAL, LAST):
        with pytest.raises(OverloadedError):
            house.limiter.refuse_if_full(priority)
    house.limiter.refuse_if_full(FIRST)


async def test_work_without_a_pause_is_limited_too() -> None:
    limiter = Limiter(2)
    done = []

    async def call(number: int) -> None:
        async with limiter.places(1, NORMAL):
            done.append(number)

    ends = await asyncio.gather(*map(call, range(10)), return_exceptions=True)
    assert done == [0, 1, 2, 3]
    assert [type(end) for end in ends[4:]] == [OverloadedError] * 6


class Model(RuleBasedStateMachine):
    """The rules in other words."""

    PLACES: Final = 6

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.house = House(self.PLACES)
        self.n_arrived = 0
        self.users: dict[str, int] = {}
        self.at_work: list[str] = []
        self.waiting: list[tuple[Priority, int, str]] = []
        self.refused: set[str] = set()

    @rule(users=st.integers(1, 8), priority=st.sampled_from(Priority))
    def arrive(self, users: int, priority: Priority) -> None:
        """Somebody comes."""
        name = str(self.n_arrived)
        self.n_arrived += 1
        self.users[name] = min(users, self.PLACES)
        before = sum(self.users[other] for line, _, other in self.waiting if line <= priority)
        if before + self.users[name] > self.PLACES:
            self.refused.add(name)
        else:
            self.waiting.append((priority, self.n_arrived, name))
            self.let_in()
            while sum(self.users[other] for *_, other in self.waiting) > self.PLACES:
                self.refused.add(self.waiting.pop()[2])
        self.loop.run_until_complete(self.house.arrive(name, users, priority))

    @precondition(lambda self: self.at_work)
    @rule(data=st.data(), cancelled=st.booleans())
    def leave(self, data: st.DataObject, *, cancelled: bool) -> None:
        """Somebody who is in leaves."""
        name = data.draw(st.sampled_from(self.at_work))
        self.at_work.remove(name)
        self.let_in()
        self.loop.run_until_complete(self.house.cancel(name) if cancelled else self.house.leave(name))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Somebody no longer waits."""
        guest = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(guest)
        self.let_in()
        self.loop.run_until_complete(self.house.cancel(guest[2]))

    @precondition(lambda self: self.at_work and self.waiting)
    @rule(data=st.data())
    def give_up_at_the_door(self, data: st.DataObject) -> None:
        """Somebody gives up in the moment in which somebody else leaves."""
        out, at_the_door = data.draw(st.sampled_from(self.at_work)), data.draw(st.sampled_from(self.waiting))

        async def both() -> None:
            self.house.tasks[out].cancel()
            self.house.tasks[at_the_door[2]].cancel()
            await turns()

        self.at_work.remove(out)
        self.waiting.remove(at_the_door)
        self.let_in()
        self.loop.run_until_complete(both())

    def let_in(self) -> None:
        """Those who wait get in, in order, while they fit."""
        self.waiting.sort()
        while self.waiting and self.taken + self.users[self.waiting[0][2]] <= self.PLACES:
            self.at_work.append(self.waiting.pop(0)[2])

    @property
    def taken(self) -> int:
        """Places taken."""
        return sum(self.users[name] for name in self.at_work)

    @invariant()
    def both_agree(self) -> None:
        """The house is as it should be."""
        assert set(self.house.at_work) == set(self.at_work)
        assert set(self.house.refused) == self.refused
        assert self.house.limiter.users_at_work == self.taken
        assert self.house.limiter.users_waiting == sum(self.users[name] for *_, name in self.waiting)

    @override
    def teardown(self) -> None:
        for task in self.house.tasks.values():
            task.cancel()
        self.loop.run_until_complete(turns())
        assert (self.house.limiter.users_at_work, self.house.limiter.users_waiting) == (0, 0)
        self.loop.close()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)
