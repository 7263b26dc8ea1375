"""How many users a server works for at once, how many may wait, and who is next."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, Final

from serving.errors import OverloadedError, Reason


class Priority(IntEnum):
    """Who among the waiting is next: the first that has anybody."""

    FIRST = auto()
    NORMAL = auto()
    LAST = auto()


CONTRIBUTIONS_PER_USER: Final = 500
"""They take as long as a user without reasons, some 2 ms: 4 µs each to build and encode in ranking, 3.5 to
read, title and encode in the gateway. `python -m benchmarks.explaining` measures a page of 5,000 of them."""


RATINGS_PER_USER: Final = 400
"""To solve for a vector or for reasons from them takes as long as a user who needs neither: 4 µs each, 1.6 ms
in all."""


def users_with_reasons(users: int, contributions: int) -> int:
    """How many users without reasons a request costs as much as."""
    return users + contributions // CONTRIBUTIONS_PER_USER


@dataclass(frozen=True)
class CallCost:
    """What calls of one method ask of a server."""

    users: Callable[[Any], int] = lambda _request: 1
    """How many users a request is about, or costs as much as: see `users_with_reasons`."""
    priority: Priority = Priority.NORMAL


@dataclass(eq=False)
class _Waiter:
    """A call that waits for places."""

    users: int
    priority: Priority
    turn: asyncio.Future[None]
    at_work: bool = False
    """Its turn has come: the places are taken."""


class Limiter:
    """Gives places to calls, one for each user that a call is about.

    A call that finds no room among the waiting is refused. So is the last one of the lowest priority, when
    somebody more urgent needs its room. Within a priority no call overtakes: a large one gets its turn.

    Args:
        places: users at work at once; as many may wait.
    """

    def __init__(self, places: int) -> None:
        self._places: Final = places
        self._at_work = 0
        self._waiting: dict[Priority, dict[_Waiter, None]] = {priority: {} for priority in Priority}
        self._wanted = dict.fromkeys(Priority, 0)
        """Places that those who wait want. Counted, as the thread of the metrics reads it at any moment."""

    @property
    def users_at_work(self) -> int:
        """Places taken."""
        return self._at_work

    @property
    def users_waiting(self) -> int:
        """Places wanted by those who wait."""
        return sum(self._wanted.values())

    def refuse_if_full(self, priority: Priority) -> None:
        """Raises if neither a place nor room to wait is left.

        Raises:
            OverloadedError: there is none for a call that is about one user.
        """
        self._require_room(1, priority)

    async def take(self, users: int, priority: Priority) -> int:
        """Takes a place per user, which the caller gives back; waits for them before.

        Args:
            users: those whom the call is about. One with more of them than there are places takes all.
            priority: how urgent it is.

        Returns:
            The places taken.

        Raises:
            OverloadedError: there is no room among the waiting, or no longer.
        """
        places = max(1, min(users, self._places))
        if places > self._places - self._at_work or any(self._waiting.values()):
            await self._turn(places, priority)
        else:
            self._at_work += places
        try:
            # A handler may work without a pause: who arrived in this turn of the loop is counted first.
            await asyncio.sleep(0)
        except BaseException:
            self.give_back(places)
            raise
        return places

    def give_back(self, places: int) -> None:
        """Ends what `take` began."""
        self._at_work -= places
        self._admit()

    async def _turn(self, users: int, priority: Priority) -> None:
        """Returns once the call has its places."""
        self._require_room(users, priority)
        waiter = _Waiter(users, priority, asyncio.get_running_loop().create_future())
        self._waiting[priority][waiter] = None
        self._wanted[priority] += users
        self._admit()
        self._make_room()
        try:
            await waiter.turn
        except BaseException:  # refused, or cancelled, be it in the moment in which its turn came
            if waiter.at_work:
                self._at_work -= users
            if waiter in self._waiting[priority]:
                self._remove(waiter)
            self._admit()
            raise

    def _require_room(self, users: int, priority: Priority) -> None:
        ahead = sum(wanted for other, wanted in self._wanted.items() if other <= priority)
        if users > self._places - ahead:
            raise _overloaded()

    def _remove(self, waiter: _Waiter) -> None:
        del self._waiting[waiter.priority][waiter]
        self._wanted[waiter.priority] -= waiter.users

    def _admit(self) -> None:
        for waiters in self._waiting.values():  # the most urgent first
            for waiter in list(waiters):
                if waiter.users > self._places - self._at_work:
                    return
                self._remove(waiter)
                if not waiter.turn.cancelled():  # else it is about to leave
                    waiter.at_work = True
                    self._at_work += waiter.users
                    waiter.turn.set_result(None)

    def _make_room(self) -> None:
        while self.users_waiting > self._places:
            waiters = next(filter(None, reversed(self._waiting.values())))  # the least urgent
            waiter = next(reversed(waiters))  # the last
            self._remove(waiter)
            if not waiter.turn.cancelled():
                waiter.turn.set_exception(_overloaded())


def _overloaded() -> OverloadedError:
    return OverloadedError("Too many calls at once. Ask again after a pause.", reason=Reason.OVERLOADED)
