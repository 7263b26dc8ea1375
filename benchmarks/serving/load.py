"""Closed loops of requests: the next is sent when an answer is there. Bytes in, bytes out."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Final, TypeAlias

import uvloop
from grpc import aio

from serving.rpc.channels import open_channel

Ask: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Sends a request, returns the answer's body."""
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Ask]]
"""Opens whatever it takes to ask."""

_ANSWER_SECONDS: Final = 60.0
_LENGTH: Final = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)


class AnswerError(Exception):
    """An answer that is none: another status than 200, or a body without a length."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    seconds: float
    body: bytes


def load(connect: Connect, requests: Sequence[bytes], *, in_flight: int, seconds: float) -> list[Answer]:
    """Keeps so many requests in flight for some time: all in turn, from the start again.

    Returns:
        The answers in the order in which they came.
    """
    return uvloop.run(_load(connect, requests, in_flight=in_flight, seconds=seconds))


def ask_each(connect: Connect, requests: Sequence[bytes], *, in_flight: int) -> list[bytes]:
    """The answer to each request, in their order."""

    async def ask_all() -> list[bytes]:
        free = asyncio.Semaphore(in_flight)
        async with connect() as ask:

            async def ask_one(request: bytes) -> bytes:
                async with free:
                    return await ask(request)

            return await asyncio.gather(*map(ask_one, requests))

    return uvloop.run(ask_all())


async def _load(
    connect: Connect, requests: Sequence[bytes], *, in_flight: int, seconds: float
) -> list[Answer]:
    answers: list[Answer] = []
    next_request = cycle(requests)
    async with connect() as ask:
        end = time.perf_counter() + seconds

        async def ask_on() -> None:
            while (began := time.perf_counter()) < end:
                body = await ask(next(next_request))
                answers.append(Answer(time.perf_counter() - began, body))

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(ask_on())
    return answers


@asynccontextmanager
async def grpc_calls(target: str, method: str) -> AsyncIterator[Ask]:
    """Calls of one rpc on one channel, as most clients make them; messages stay bytes."""
    async with open_channel(target) as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)

        async def ask(request: bytes) -> bytes:
            return await call(request, timeout=_ANSWER_SECONDS)

        yield ask


@asynccontextmanager
async def http_requests(target: str) -> AsyncIterator[Ask]:
    """Requests over HTTP/1.1: as many connections as are needed, kept alive, no pipelining."""
    host, _, port = target.rpartition(":")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    opened: list[asyncio.StreamWriter] = []

    async def ask(request: bytes) -> bytes:
        if idle:
            reader, writer = idle.pop()
        else:
            reader, writer = await asyncio.open_connection(host, int(port))
            opened.append(writer)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise AnswerError(head.decode("latin-1"))
        body = await reader.readexactly(int(length[1]))
        idle.append((reader, writer))
        return body

    try:
        yield ask
    finally:
        for writer in opened:
            writer.close()
