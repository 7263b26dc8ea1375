"""A stage that answers one query at a time: each is a call of its own, and waits for no other."""

from typing_extensions import override

from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from serving.stages.stage import Answer, Query, Stage, unwrap


class DirectStage(Stage[Query, Answer]):
    """A stage whose queries share no calls.

    Args:
        client: makes the calls.
        breaker: refuses calls while the stage keeps failing.
    """

    def __init__(self, client: StageClient[Query, Answer], breaker: Breaker) -> None:
        self._client = client
        self._breaker = breaker

    @override
    async def ask(self, query: Query, *, seconds: float) -> Answer:
        (answer,) = await self._breaker.call(
            lambda: self._client.call([query], seconds=seconds), patience=seconds
        )
        return unwrap(answer)
