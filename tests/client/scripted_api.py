"""The API behind a real port, which answers call after call as a script says; and clients that ask it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import grpc
from grpc import aio
from typing_extensions import override

from movierec_client import AsyncMovieClient, MovieClient
from tests.gateway.scripted_stage import Behaviour, listening, saying


class Kind(StrEnum):
    """Of client."""

    SYNC = "sync"
    ASYNC = "async"


@dataclass
class ScriptedApi(grpc.GenericRpcHandler):
    """Takes every method of every service. When the script is over, its last line is repeated."""

    script: list[Behaviour] = field(default_factory=lambda: [saying(b"")])
    calls: list[tuple[str, bytes]] = field(default_factory=list)
    """Path and request of each call."""
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    time_remaining: float | None = None
    target: str = ""

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method

        async def call(request: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
            self.calls.append((path, request))
            self.metadata = dict(context.invocation_metadata() or ())
            self.time_remaining = context.time_remaining()
            behave = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            return await behave(context)

        return grpc.unary_unary_rpc_method_handler(call)

    async def ask(
        self, kind: Kind, method: str, *arguments: Any, timeout_seconds: float, **settings: Any
    ) -> Any:
        """What a fresh client's method returns."""
        if kind is Kind.ASYNC:
            async with AsyncMovieClient(self.target, **settings) as client:
                return await getattr(client, method)(*arguments, timeout_seconds=timeout_seconds)

        def ask() -> Any:
            with MovieClient(self.target, **settings) as client:
                return getattr(client, method)(*arguments, timeout_seconds=timeout_seconds)

        return await asyncio.to_thread(ask)


@asynccontextmanager
async def scripted_api(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[ScriptedApi]:
    """An API that listens."""
    api = ScriptedApi()
    async with listening(api, credentials) as api.target:
        yield api
