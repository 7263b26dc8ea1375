"""Options of channels and servers: known to gRPC's core, and in agreement about idle connections."""

import ast
import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from grpc import ChannelConnectivity
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled, without types

from serving.rpc import channels, server
from tests.serving.server_under_test import running_server

ROOT = Path(__file__).parents[2]

FASTER = 30
PINGS = 5  # three that come too early are answered by GOAWAY
HEADER_BYTES = 9  # length (3), type, flags, stream (4)
SETTINGS, PING, GOAWAY, ACK = 4, 6, 7, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def options_in(source: str) -> Iterator[str]:
    """Names of gRPC options: first of a pair, or key of a dict."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Tuple(elts=[ast.Constant(value=str(name)), _]) if name.startswith("grpc."):
                yield name
            case ast.Dict(keys=keys):
                names = [key.value for key in keys if isinstance(key, ast.Constant)]
                yield from (name for name in names if isinstance(name, str) and name.startswith("grpc."))


def test_the_core_knows_every_option() -> None:
    core = Path(cygrpc.__file__).read_bytes()
    folders = (path for path in ROOT.iterdir() if path.is_dir() and path.name not in {".venv", "build"})
    sources = (file.read_text(encoding="utf-8") for folder in folders for file in folder.rglob("*.py"))
    used = set(chain.from_iterable(options_in(source) for source in sources if '"grpc.' in source))
    assert "grpc.keepalive_time_ms" in used
    assert {name for name in used if name.encode() + b"\0" not in core} == set()


class Frames:
    """Counts HTTP/2 frames in one direction of a connection."""

    def __init__(self, preface_bytes: int) -> None:
        self.seen: Counter[int] = Counter()
        self._skip = preface_bytes
        self._left = b""

    def feed(self, data: bytes) -> None:
        """Takes what was read."""
        self._left += data
        while len(self._left) >= self._skip + HEADER_BYTES:
            header = self._left[self._skip : self._skip + HEADER_BYTES]
            if header[3] != PING or not header[4] & ACK:
                self.seen[header[3]] += 1
            self._left = self._left[self._skip + HEADER_BYTES :]
            self._skip = int.from_bytes(header[:3])


@pytest.mark.row(33)
async def test_an_idle_channel_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def faster(options: Iterator[tuple[str, int]]) -> list[tuple[str, int]]:
        between_pings = ("keepalive_time_ms", "ping_interval_without_data_ms")
        return [(n, value // FASTER if n.endswith(between_pings) else value) for n, value in options]

    theirs = server._options  # noqa: SLF001  # no setting: the two sides have to agree
    monkeypatch.setattr(channels, "_OPTIONS", faster(iter(channels._OPTIONS)))  # noqa: SLF001
    monkeypatch.setattr(server, "_options", lambda settings: faster(iter(theirs(settings))))
    sent, received = Frames(len(PREFACE)), Frames(0)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: Frames) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                frames.feed(data)
                writer.write(data)
        writer.close()

    async with running_server() as stage:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", stage.port)
            await asyncio.gather(copy(reader, up_writer, sent), copy(up_reader, writer, received))

        relaying = await asyncio.start_server(relay, "127.0.0.1", 0)
        port = relaying.sockets[0].getsockname()[1]
        async with relaying, channels.open_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
            changed = asyncio.create_task(channel.wait_for_state_change(ChannelConnectivity.READY))
            async with asyncio.timeout(30):
                while sent.seen[PING] < PINGS and not changed.done():  # noqa: ASYNC110  # the core has no event
                    await asyncio.sleep(0.05)
            assert received.seen[GOAWAY] == 0
            assert not changed.done()
            changed.cancel()


@pytest.mark.row(33)
async def test_who_pings_too_often_is_cut_off_and_nobody_else() -> None:
    async with running_server() as stage, channels.open_channel(f"127.0.0.1:{stage.port}") as other:
        await asyncio.wait_for(other.channel_ready(), 10)
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        writer.write(PREFACE + bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0)))
        received = Frames(0)
        async with asyncio.timeout(30):
            while data := await reader.read(65536):  # until it is closed
                received.feed(data)
                if not received.seen[GOAWAY]:
                    writer.write(bytes((0, 0, 8, PING, 0, 0, 0, 0, 0)) + bytes(8))
        writer.close()
        assert received.seen[GOAWAY] > 0
        assert other.get_state() is ChannelConnectivity.READY
