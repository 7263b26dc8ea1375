"""A stage in shards: who is asked about whom, and whose state is told."""

from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from gateway.stages.monitor import StageStatus
from gateway.stages.sharded import ShardedStage, ShardsMonitor
from serving.shards import shard_of
from serving.stages.candidate import CandidateQuery
from serving.stages.stage import FallbackReason, Stage, StageName
from tests.gateway.small_world import StubMonitor


@dataclass
class Recorder(Stage[Any, int]):
    """Remembers whom it was asked about."""

    user_ids: list[int] = field(default_factory=list)

    @override
    async def ask(self, query: Any, *, seconds: float) -> int:
        self.user_ids.append(query.user_id)
        return len(self.user_ids)


async def asked(*user_ids: int) -> list[list[int]]:
    """By shard of three, whom it was asked about."""
    shards = [Recorder() for _ in range(3)]
    stage = ShardedStage(shards)
    for user_id in user_ids:
        await stage.ask(CandidateQuery(user_id=user_id), seconds=1)
    return [shard.user_ids for shard in shards]


async def test_each_user_meets_their_shard_alone() -> None:
    users = range(1, 31)
    by_shard = await asked(*users)
    assert by_shard == [[user for user in users if shard_of(user, 3) == index] for index in range(3)]
    assert all(by_shard)


async def test_queries_about_nobody_are_spread() -> None:
    """They went to one shard, which had to serve all newcomers."""
    assert await asked(0, 0, 0, 0, 0, 0) == [[0, 0]] * 3


async def test_the_shard_that_is_not_well_speaks_for_all() -> None:
    well, away, left_alone = (
        StageStatus(StageName.CANDIDATE, serving, reason, bundle_id)
        for serving, reason, bundle_id in (
            (True, None, "first"),
            (False, None, "second"),
            (True, FallbackReason.DEPENDENCY_UNAVAILABLE, "third"),
        )
    )
    for states, told in (
        ((well, well), well),
        ((well, away), away),
        ((well, left_alone), left_alone),
        ((away, left_alone), away),
    ):
        assert await ShardsMonitor([StubMonitor(state) for state in states]).status() is told
