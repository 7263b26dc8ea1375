"""What operators may add to the edge: browsers of other origins, tokens, other limits."""

import asyncio
import base64
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.envoy_config import Jwt, Options
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1 import movie_service_pb2_grpc as pb_grpc
from tests.deploy.edge import PATIENCE_SECONDS, Edge, running_edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORIGIN = "https://app.example.com"
ISSUER = "https://issuer.example.com"
AUDIENCE = "movierec"
KEY = ec.generate_private_key(ec.SECP256R1())
MOVIE = "/api/movies/7"


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwks() -> str:
    """The public half of the issuer's key."""
    numbers = KEY.public_key().public_numbers()
    point = {name: base64url(getattr(numbers, name).to_bytes(32)) for name in ("x", "y")}
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", **point}]})


def token(key: ec.EllipticCurvePrivateKey = KEY, **changed: Any) -> str:
    """A token, good for an hour but for what is changed."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "a shop", "exp": int(time.time()) + 3600} | changed
    claims = {name: value for name, value in claims.items() if value is not None}
    parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "ES256", "kid": "k"}, claims)]
    signature = key.sign(".".join(parts).encode(), ec.ECDSA(SHA256()))
    r, s = utils.decode_dss_signature(signature)
    return ".".join([*parts, base64url(r.to_bytes(32) + s.to_bytes(32))])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """An edge for pages of one origin, which bring tokens."""
    directory = tmp_path_factory.mktemp("guarded")
    keys = directory / "jwks.json"
    keys.write_text(jwks())
    options = Options(cors_origins=(ORIGIN,), jwt=Jwt(keys, ISSUER, AUDIENCE))
    async with running_edge(directory, options) as edge:
        edge.gateway.answer = pb.GetMovieResponse()
        yield edge


@pytest_asyncio.fixture(loop_scope="module")
async def browser(guarded: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with guarded.client() as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, 16),
        (bearer("no token"), 401, 16),
        (bearer(token(ec.generate_private_key(ec.SECP256R1()))), 401, 16),
        (bearer(token(exp=int(time.time()) - 3600)), 401, 16),
        (bearer(token(exp=None)), 401, 16),
        (bearer(token(iss="https://other.example.com")), 401, 16),
        (bearer(token(aud="other")), 403, 7),
    ],
    ids=["none", "unreadable", "another key", "expired", "endless", "another issuer", "another audience"],
)
async def test_tokens_that_do_not_open(
    guarded: Edge, browser: httpx.AsyncClient, headers: dict[str, str], status: int, code: int
) -> None:
    guarded.gateway.request = None
    response = await browser.get(MOVIE, headers=headers)
    assert response.status_code == status
    assert response.json()["code"] == code
    assert response.json()["details"][0]["domain"] == "envoy"
    assert guarded.gateway.request is None


async def test_a_token_opens_and_goes_no_further(guarded: Edge, browser: httpx.AsyncClient) -> None:
    response = await browser.get(MOVIE, headers=bearer(token()))
    assert response.status_code == 200
    assert guarded.gateway.request == pb.GetMovieRequest(movie_id=7)
    assert "authorization" not in guarded.gateway.metadata


async def test_a_token_in_the_url_does_not_open(browser: httpx.AsyncClient) -> None:
    assert (await browser.get(MOVIE, params={"access_token": token()})).status_code == 401


async def test_health_is_open(browser: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await browser.get(path)).status_code == 200
    assert (await browser.get("/openapi.json")).status_code == 401


async def test_tokens_of_native_grpc(guarded: Edge) -> None:
    async with guarded.channel() as channel:
        stub = pb_grpc.MovieServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMovie(pb.GetMovieRequest(movie_id=7))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        await stub.GetMovie(pb.GetMovieRequest(movie_id=7), metadata=tuple(bearer(token()).items()))
        health: Any = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # a stream stays open: not for everybody
            await anext(aiter(health.Watch(health_pb2.HealthCheckRequest())))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        brought = tuple(bearer(token()).items())
        await anext(aiter(health.Watch(health_pb2.HealthCheckRequest(), metadata=brought)))


def preflight(origin: str, method: str) -> dict[str, str]:
    """What a browser asks before it sends a request with a token."""
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization",
    }


@pytest.mark.parametrize(("url", "method"), [(MOVIE, "GET"), ("/api/movies/personal", "POST")])
async def test_preflight(browser: httpx.AsyncClient, url: str, method: str) -> None:
    response = await browser.options(url, headers=preflight(ORIGIN, method))
    assert response.status_code == 200
    allowed = {
        name: response.headers[f"access-control-allow-{name}"] for name in ("origin", "methods", "headers")
    }
    assert allowed == {"origin": ORIGIN, "methods": "GET, POST", "headers": "authorization, content-type"}
    assert "access-control-allow-credentials" not in response.headers


async def test_preflight_of_another_origin(guarded: Edge, browser: httpx.AsyncClient) -> None:
    guarded.gateway.request = None
    response = await browser.options(MOVIE, headers=preflight("https://evil.example.com", "GET"))
    assert "access-control-allow-origin" not in response.headers
    assert guarded.gateway.request is None


async def test_pages_may_read_answers_and_errors(browser: httpx.AsyncClient) -> None:
    for headers, status in ((bearer(token()), 200), ({}, 401)):
        response = await browser.get(MOVIE, headers={"origin": ORIGIN, **headers})
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["access-control-expose-headers"] == "retry-after, x-request-id"


async def ask(edge: Edge) -> httpx.Response:
    async with edge.client() as client:
        return await client.get(MOVIE)


async def test_readers_that_take_nothing_lose_their_answers(tmp_path: Path) -> None:
    """Otherwise their answers fill the memory, and everybody is refused."""
    options = Options(heap_bytes=96 * 1024 * 1024)
    async with running_edge(tmp_path, options) as edge, AsyncExitStack() as stack:
        edge.gateway.answer = pb.GetMovieResponse(movie=pb.Movie(movie_id=7, title="x" * 4_000_000))
        readers = [
            await stack.enter_async_context(streams_that_take_nothing(edge.port, MOVIE, count=40))
            for _ in range(2)
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(until_reset(reader) for reader in readers))
            edge.gateway.answer = pb.GetMovieResponse()
            # Envoy refuses until it has freed what they took.
            while (status := (await ask(edge)).status_code) == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert status == 200


@asynccontextmanager
async def streams_that_take_nothing(
    port: int, path: str, *, count: int
) -> AsyncIterator[asyncio.StreamReader]:
    """GET requests on one HTTP/2 connection whose streams have windows of 0 bytes; yields what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    no_window = struct.pack(">HI", 0x4, 0)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(0x4, 0, 0, no_window))
    fields = {":method": "GET", ":scheme": "http", ":path": path, ":authority": "edge"}
    block = b"".join(  # literals, not indexed
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    for number in range(count):
        writer.write(frame(0x1, 0x4 | 0x1, 2 * number + 1, block))
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


async def until_reset(reader: asyncio.StreamReader, *, streams: int = 40) -> None:
    """Returns once all streams are reset, one by one or with their connection."""
    with suppress(asyncio.IncompleteReadError):
        while streams:
            header = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(header[:3]))
            streams -= header[3] == 0x3


async def test_too_little_memory(tmp_path: Path) -> None:
    async with running_edge(tmp_path, Options(heap_bytes=1024 * 1024)) as edge:
        edge.gateway.answer = pb.GetMovieResponse()
        async with asyncio.timeout(PATIENCE_SECONDS):  # Envoy looks once a second
            while (response := await ask(edge)).status_code == 200:
                pass
    assert response.status_code == 503
    assert response.json()["code"] == 14
