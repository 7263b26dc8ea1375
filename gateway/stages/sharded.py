"""A stage whose users are split over shards: each query goes to the shard of its user."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Protocol, TypeVar

from typing_extensions import override

from gateway.stages.monitor import StageMonitor, StageStatus
from serving.shards import shard_of
from serving.stages.stage import Answer_co, Stage


class UserQuery(Protocol):
    """A query about one user."""

    @property
    def user_id(self) -> int:
        """0: nobody, whom any shard may answer."""
        ...


UserQuery_contra = TypeVar("UserQuery_contra", bound=UserQuery, contravariant=True)


class ShardedStage(Stage[UserQuery_contra, Answer_co]):
    """A stage in shards.

    Each has calls and a breaker of its own: no call holds users of two, and a shard that is away is no reason
    to leave the others alone. Queries about nobody, as those with a history alone, go to each shard in turn.

    Args:
        shards: one per shard, ascending.
    """

    def __init__(self, shards: Sequence[Stage[UserQuery_contra, Answer_co]]) -> None:
        self._shards = shards
        self._in_turn = itertools.cycle(shards)

    @override
    async def ask(self, query: UserQuery_contra, *, seconds: float) -> Answer_co:
        user_id = query.user_id
        shard = self._shards[shard_of(user_id, len(self._shards))] if user_id else next(self._in_turn)
        return await shard.ask(query, seconds=seconds)


class ShardsMonitor(StageMonitor):
    """Tells the state of all shards as one: that of the first that fails, else of the first.

    Args:
        shards: one per shard, ascending.
    """

    def __init__(self, shards: Sequence[StageMonitor]) -> None:
        self._shards = shards

    @override
    async def status(self) -> StageStatus:
        statuses = await asyncio.gather(*(shard.status() for shard in self._shards))
        failing = (one for one in statuses if not one.serving or one.breaker_reason is not None)
        return next(failing, statuses[0])
