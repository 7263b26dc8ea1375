"""A stage behind a real port that answers every call with what a test says: bytes, a status, or nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status
from typing_extensions import override

from serving.errors import ServiceError
from serving.rpc.channels import open_channel
from serving.rpc.status import status_of
from serving.rpc.tracing import OFF, Tracing

Behaviour = Callable[[aio.ServicerContext[Any, Any]], Awaitable[bytes]]


def saying(answer: Message | bytes) -> Behaviour:
    """Answers with a message, or with raw bytes."""
    data = answer if isinstance(answer, bytes) else answer.SerializeToString()

    async def behave(_context: aio.ServicerContext[Any, Any]) -> bytes:
        return data

    return behave


def failing_with(failure: StatusCode | ServiceError | status_pb2.Status) -> Behaviour:
    """Answers with a bare status, as our servers tell of an error, or with details of a test's own."""

    async def behave(context: aio.ServicerContext[Any, Any]) -> bytes:
        if isinstance(failure, StatusCode):
            await context.abort(failure, "as the test says")
        status = rpc_status.to_status(status_of(failure) if isinstance(failure, ServiceError) else failure)
        await context.abort(status.code, status.details, status.trailing_metadata)

    return behave


@dataclass
class ScriptedStage(grpc.GenericRpcHandler):
    """Takes every method of every service."""

    behave: Behaviour = field(default_factory=lambda: saying(b""))
    requests: list[bytes] = field(default_factory=list)
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._call)

    async def hang(self, _context: aio.ServicerContext[Any, Any]) -> bytes:
        """Never answers."""
        await asyncio.Event().wait()
        return b""

    async def _call(self, request: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata() or ())
        self.entered.set()
        try:
            return await self.behave(context)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@asynccontextmanager
async def listening(
    handler: grpc.GenericRpcHandler, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """A server whose calls all go to one handler; yields its address."""
    server, anywhere = aio.server(), "127.0.0.1:0"
    server.add_generic_rpc_handlers((handler,))
    port = (
        server.add_secure_port(anywhere, credentials) if credentials else server.add_insecure_port(anywhere)
    )
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def scripted_stage(tracing: Tracing = OFF) -> AsyncIterator[tuple[ScriptedStage, aio.Channel]]:
    """A stage that listens, and a channel to it."""
    stage = ScriptedStage()
    async with listening(stage) as address, open_channel(address, tracing=tracing) as channel:
        yield stage, channel
