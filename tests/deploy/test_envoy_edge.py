"""What REST and gRPC clients get from Envoy: a real one, in front of a stub of the gateway."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from benchmarks.ports import free_port
from deploy.envoy_config import Options
from deploy.openapi.document import OPENAPI
from movierec.candidate.v1 import candidate_service_pb2 as candidate_pb
from movierec.candidate.v1 import candidate_service_pb2_grpc as candidate_pb_grpc
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1 import movie_service_pb2_grpc as pb_grpc
from tests.deploy.edge import (
    EDGE_METRIC,
    PATIENCE_SECONDS,
    ROOT,
    SERVICE,
    Edge,
    demo_place,
    image_place,
    running_edge,
    running_envoy,
    running_gateway,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGEST_INT64 = 2**63 - 1
BODY_LIMIT = 65536
CONNECTIONS = 1000
HTTP2_DATA, HTTP2_HEADERS, HTTP2_SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
PERSONAL = "/api/movies/personal"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def error_of(response: httpx.Response) -> tuple[int, int, str]:
    """Status, code and reason of an error of Envoy's own; its shape is checked on the way."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"code", "message", "details"}
    (detail,) = body["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert detail["domain"] == "envoy"
    assert "metadata" not in detail  # Envoy's own names of what happened are in its log
    assert isinstance(body["message"], str)
    assert body["message"]
    return response.status_code, body["code"], detail["reason"]


# Requests


@pytest.mark.parametrize(
    ("url", "request_"),
    [
        (
            "/api/movies/popular?limit=3&offset=2&filter.genres=Drama&filter.genres=War&filter.minYear=1950",
            pb.ListPopularMoviesRequest(
                limit=3, offset=2, filter=pb.MovieFilter(genres=["Drama", "War"], min_year=1950)
            ),
        ),
        (
            f"{PERSONAL}?user_id={LARGEST_INT64}&exclude_movie_ids=1&excludeMovieIds=2&diversity=0.5&include_seen=true",
            pb.ListPersonalMoviesRequest(
                user_id=LARGEST_INT64, exclude_movie_ids=[1, 2], diversity=0.5, include_seen=True
            ),
        ),
        ("/api/movies/7/similar?limit=4", pb.ListSimilarMoviesRequest(movie_id=7, limit=4)),
        (
            f"{PERSONAL}?fallback_policy=FALLBACK_POLICY_DENY",
            pb.ListPersonalMoviesRequest(fallback_policy=pb.FALLBACK_POLICY_DENY),
        ),
        ("/api/movies/7/similar/", pb.ListSimilarMoviesRequest(movie_id=7)),
        (
            "/api/movies/7/why?user_id=8&limit=5&filter.genres=Drama&exclude_movie_ids=9&explain_features=3",
            pb.WhyMovieRequest(
                movie_id=7,
                user_id=8,
                limit=5,
                filter=pb.MovieFilter(genres=["Drama"]),
                exclude_movie_ids=[9],
                explain_features=3,
            ),
        ),
        ("/api/movies/7", pb.GetMovieRequest(movie_id=7)),
        (
            "/api/movies:search?query=am%C3%A9lie%20%2B&limit=3&filter.genres=Drama",
            pb.SearchMoviesRequest(query="amélie +", limit=3, filter=pb.MovieFilter(genres=["Drama"])),
        ),
        ("/api/movies/taste?limit=3", pb.ListTasteMoviesRequest(limit=3)),
        ("/api/users/8?limit=3", pb.GetUserRequest(user_id=8, limit=3)),
        ("/api/status", pb.GetStatusRequest()),
        ("/api/./x/../movies/7", pb.GetMovieRequest(movie_id=7)),
    ],
)
async def test_get_reaches_the_gateway(
    edge: Edge, client: httpx.AsyncClient, url: str, request_: Message
) -> None:
    edge.gateway.answer = getattr(pb, type(request_).__name__.replace("Request", "Response"))()
    response = await client.get(url)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert edge.gateway.request == request_


@pytest.mark.parametrize("user_id", [LARGEST_INT64, str(LARGEST_INT64)], ids=["number", "string"])
async def test_post_takes_user_ids_as_number_and_as_string(
    edge: Edge, client: httpx.AsyncClient, user_id: int | str
) -> None:
    edge.gateway.answer = pb.ListPersonalMoviesResponse()
    history = [{"movie_id": 1, "rating": 4.5}, {"movieId": 2, "rate_time": "2020-01-01T00:00:00Z"}]
    response = await client.post(PERSONAL, json={"user_id": user_id, "history": history})
    assert response.status_code == 200, response.text
    assert isinstance(edge.gateway.request, pb.ListPersonalMoviesRequest)
    assert edge.gateway.request.user_id == LARGEST_INT64
    assert [rated.movie_id for rated in edge.gateway.request.history] == [1, 2]


async def test_batch(edge: Edge, client: httpx.AsyncClient) -> None:
    edge.gateway.answer = pb.BatchListPersonalMoviesResponse(responses=[pb.ListPersonalMoviesResponse()] * 2)
    response = await client.post(f"{PERSONAL}:batch", json={"requests": [{"user_id": 7}, {"user_id": "8"}]})
    assert len(response.json()["responses"]) == 2
    assert isinstance(edge.gateway.request, pb.BatchListPersonalMoviesRequest)
    assert [request.user_id for request in edge.gateway.request.requests] == [7, 8]


async def test_json_has_proto_names_numbers_and_zeros(edge: Edge, client: httpx.AsyncClient) -> None:
    movie = pb.Movie(movie_id=2**31 - 1, title="Seven Samurai", year=1954)
    edge.gateway.answer = pb.GetMovieResponse(movie=movie)
    body = (await client.get("/api/movies/7")).json()
    assert body == {
        "bundle_id": "",
        "movie": {
            "movie_id": 2**31 - 1,
            "title": "Seven Samurai",
            "year": 1954,
            "genres": [],
            "rating_count": 0,
        },
    }


async def test_long_answers_fit_and_are_compressed_for_those_who_ask(
    edge: Edge, client: httpx.AsyncClient
) -> None:
    reasons = [pb.FeatureContribution(feature="a" * 40, value=0.1, contribution=0.1)] * 100
    page = [pb.RecommendedMovie(movie=pb.Movie(title="b" * 60), explanation=reasons)] * 100
    edge.gateway.answer = pb.ListPersonalMoviesResponse(movies=page)
    for url in (PERSONAL, "/openapi.json"):
        plain = await client.get(url, headers={"accept-encoding": "identity"})
        compressed = await client.get(url, headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in plain.headers
        assert compressed.headers["content-encoding"] == "gzip"
        assert compressed.num_bytes_downloaded < len(plain.content) / 3
        assert compressed.content == plain.content
        assert len(plain.content) > (500_000 if url == PERSONAL else 1_000)
    edge.gateway.answer = pb.ListPersonalMoviesResponse()
    assert "content-encoding" not in (await client.get(PERSONAL)).headers  # not worth it


@pytest.mark.row(56)
async def test_every_call_has_a_request_id_of_our_own(edge: Edge, client: httpx.AsyncClient) -> None:
    response = await client.get("/api/movies/7", headers={"x-request-id": "theirs"})
    assert edge.gateway.metadata["x-request-id"] == response.headers["x-request-id"] != "theirs"
    refused = await client.get("/nothing")
    assert refused.headers["x-request-id"]


async def test_clients_cannot_steer_envoy_by_its_own_headers(edge: Edge, client: httpx.AsyncClient) -> None:
    # Believed, it would be a deadline that has passed before the gateway answers.
    headers = {"x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-original-path": "/other"}
    edge.gateway.delay_seconds = 0.2
    response = await client.get("/api/movies/7", headers=headers)
    assert response.status_code == 200
    assert "x-envoy-internal" not in edge.gateway.metadata


async def test_the_api_document(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.content == (ROOT / OPENAPI).read_bytes()


# Deadlines


@pytest.mark.parametrize(("headers", "least", "most"), [({}, 0, 1.95), ({"grpc-timeout": "60S"}, 1.95, 61)])
async def test_rest_calls_get_a_deadline_unless_they_have_one(
    edge: Edge, client: httpx.AsyncClient, headers: dict[str, str], least: float, most: float
) -> None:
    await client.get("/api/movies/7", headers=headers)
    assert edge.gateway.time_remaining is not None
    assert least < edge.gateway.time_remaining <= most


async def test_a_gateway_that_hangs_is_given_up(
    edge: Edge, client: httpx.AsyncClient, channel: grpc.aio.Channel
) -> None:
    edge.gateway.delay_seconds = PATIENCE_SECONDS
    headers = {"grpc-timeout": "60S"}  # beyond the route's, so that it is Envoy who loses patience
    assert error_of(await client.get("/api/movies/7", headers=headers)) == (504, 4, "GATEWAY_TIMEOUT")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pb_grpc.MovieServiceStub(channel).GetMovie(pb.GetMovieRequest(), timeout=PATIENCE_SECONDS)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert not (caught.value.details() or "").startswith("{")


@pytest.mark.row(27)
async def test_slow_headers_are_cut_off(edge: Edge) -> None:
    response = await answer_to(edge, b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    assert error_of(response) == (408, 4, "REQUEST_TIMEOUT")


@pytest.mark.row(27)
async def test_two_hundred_who_send_drop_by_drop_are_cut_off_and_others_are_served(
    edge: Edge, client: httpx.AsyncClient, record_property: Callable[[str, object], None]
) -> None:
    """Half of them never end their headers, half never end the body that they have announced."""
    endless_body = f"POST {PERSONAL} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n".encode()
    begins = [b"GET /healthz HTTP/1.1\r\nx: ", endless_body] * 100
    served = 0
    async with asyncio.TaskGroup() as group:
        drippers = [group.create_task(drip(edge, begin)) for begin in begins]
        while not all(dripper.done() for dripper in drippers):
            assert (await client.get("/api/movies/7")).status_code == 200
            served += 1
            await asyncio.sleep(0.02)
    record_property("requests", served)
    record_property("drippers", len(drippers))
    assert Counter(dripper.result() for dripper in drippers) == {408: 200}


async def drip(edge: Edge, begin: bytes) -> int:
    """Sends a byte every quarter of a second until the edge has had enough; gives the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(begin)
    answer = asyncio.create_task(reader.readuntil(b"\r\n"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.25)
    writer.close()
    return int((await answer).split()[1])


async def idle_connections(edge: Edge, stack: AsyncExitStack, count: int) -> list[asyncio.Task[bytes]]:
    """Opens connections until the stack is closed; each task ends when the edge has closed its connection."""
    readers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        stack.callback(writer.close)
        readers.append(reader)
    return [asyncio.create_task(reader.read()) for reader in readers]


@pytest.mark.row(27)
async def test_so_many_connections_and_no_more(tmp_path: Path) -> None:
    """In an Envoy of its own: the tests of this module share one."""
    async with running_edge(tmp_path) as edge, AsyncExitStack() as stack:
        ends = await idle_connections(edge, stack, CONNECTIONS + 20)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sum(end.done() for end in ends) < 20:  # noqa: ASYNC110  # the kernel takes them all in first
                await asyncio.sleep(0.05)
        for end in ends:
            end.cancel()
        assert sum(end.done() and not end.cancelled() for end in ends) == 20


# Old and odd HTTP


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/api/movies/7"])
@pytest.mark.parametrize("host", [b"", b"host: 10.0.0.1:8080\r\n"], ids=["no host", "host"])
async def test_http_1_0_as_load_balancers_probe(edge: Edge, path: str, host: bytes) -> None:
    response = await answer_to(edge, b"GET " + path.encode() + b" HTTP/1.0\r\n" + host + b"\r\n")
    assert (response.status_code, response.http_version) == (200, "HTTP/1.0")


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", (400, 3, "INVALID_REQUEST")),
        (b"FOO /healthz HTTP/1.1\r\nhost: x\r\n\r\n", (400, 3, "INVALID_REQUEST")),
        (b"GET /nothing HTTP/1.0\r\n\r\n", (404, 5, "UNKNOWN_PATH")),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n", (404, 5, "UNKNOWN_PATH")),
        (
            b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            (403, 12, "UPGRADE_NOT_SUPPORTED"),
        ),
        (
            b"POST /api/movies/personal HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
            (501, 12, "TRANSFER_ENCODING_NOT_SUPPORTED"),
        ),
    ],
)
async def test_what_clients_rarely_say(edge: Edge, request_: bytes, error: tuple[int, int, str]) -> None:
    assert error_of(await answer_to(edge, request_)) == error


async def answer_to(edge: Edge, request: bytes) -> httpx.Response:
    """What a plain socket reads, whose client says no more than this and waits for the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        version, status, _ = head.decode().split(" ", 2)
        headers = httpx.Headers(dict(line.split(b": ", 1) for line in head.splitlines()[1:-1]))
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    writer.close()
    extensions = {"http_version": version.encode()}
    return httpx.Response(int(status), headers=headers, content=body, extensions=extensions)


# Errors


@pytest.mark.row(26)
@pytest.mark.parametrize(
    "url",
    [
        *("/nothing", "/readyz/x", "/stats", "/api/movies", "/api/movies/", "/api/movies/7:x"),
        *("/api/movies/7/similar/8", "/api/movies/7/why/8"),
        *("/api/movies/personal:batch/", "/api/movies:search/"),
        f"/{SERVICE}/GetMovie",
        "/movierec.candidate.v1.CandidateService/GenerateCandidates",
    ],
)
async def test_unknown_path(edge: Edge, client: httpx.AsyncClient, url: str) -> None:
    for method in ("GET", "POST"):
        assert error_of(await client.request(method, url)) == (404, 5, "UNKNOWN_PATH")
    assert edge.gateway.request is None


@pytest.mark.row(26)
@pytest.mark.parametrize("method", ["DELETE", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"])
@pytest.mark.parametrize(
    "url",
    [
        "/api/movies/popular",
        "/api/movies/7",
        "/api/movies/7/similar?limit=1",
        "/api/movies/7/why?user_id=1",
        "/api/movies:search?query=heat",
    ],
)
async def test_other_methods(edge: Edge, client: httpx.AsyncClient, method: str, url: str) -> None:
    response = await client.request(method, url)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET"
    if method != "HEAD":
        assert error_of(response) == (405, 12, "METHOD_NOT_ALLOWED")
    assert edge.gateway.request is None


@pytest.mark.parametrize("url", ["/", "/console/app.js", "/openapi.json", "/healthz", "/readyz"])
async def test_what_envoy_holds_is_there_for_head_too(client: httpx.AsyncClient, url: str) -> None:
    """`/` said 404, and `/openapi.json` 405."""
    head, get = [await client.request(method, url) for method in ("HEAD", "GET")]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers.get("content-type") == get.headers.get("content-type")


@pytest.mark.parametrize(
    ("url", "allow"),
    [(PERSONAL, "GET, POST"), (f"{PERSONAL}:batch", "POST"), ("/openapi.json", "GET, HEAD")],
)
async def test_other_methods_where_post_is_one(
    edge: Edge, client: httpx.AsyncClient, url: str, allow: str
) -> None:
    response = await client.put(url)
    assert error_of(response) == (405, 12, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == allow
    assert edge.gateway.request is None


@pytest.mark.row(23, 25)
@pytest.mark.parametrize(
    "url",
    [
        *("/api/movies/7?nope=1", "/api/movies/7/why?user_id=8&history=1"),
        *("/api/movies/x", "/api/movies/2147483648", "/api/movies/7%2Fsimilar"),
        *("/api/movies/%00", "/api/movies/%ff"),
        *(f"/api/movies/popular?limit={limit}" for limit in ("", "abc", "1e1", "10.5")),
        f"{PERSONAL}?user_id={LARGEST_INT64 + 1}",
        f"{PERSONAL}?diversity=nan",
        f"{PERSONAL}?fallback_policy=NO_SUCH",
    ],
)
async def test_unreadable_url(edge: Edge, client: httpx.AsyncClient, url: str) -> None:
    assert error_of(await client.get(url)) == (400, 3, "INVALID_REQUEST")
    assert edge.gateway.request is None


@pytest.mark.parametrize("parameter", ["history", "history.movie_id", "%68ist%6Fry.movieId"])
@pytest.mark.parametrize("query", ["?{}=1", "?user_id=7&{}=1&limit=3", "/?{}=1"])
async def test_history_needs_a_body(
    edge: Edge, client: httpx.AsyncClient, parameter: str, query: str
) -> None:
    response = await client.get(PERSONAL + query.format(parameter))
    assert response.status_code == 400
    assert "Invalid request: history: must stand in the JSON body of a POST" in response.json()["message"]
    assert edge.gateway.request is None


async def test_history_as_a_value_is_no_history(edge: Edge, client: httpx.AsyncClient) -> None:
    edge.gateway.answer = pb.ListPersonalMoviesResponse()
    response = await client.get(f"{PERSONAL}?filter.genres=history")
    assert response.status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"user_id": 7.5}', b'{"limit": "many"}'])
async def test_unreadable_body(edge: Edge, client: httpx.AsyncClient, body: bytes) -> None:
    assert error_of(await client.post(PERSONAL, content=body)) == (400, 3, "INVALID_REQUEST")
    assert edge.gateway.request is None


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"some_header": "1"}, (400, 3, "INVALID_REQUEST")),
        ({"large": "x" * 70_000}, (431, 8, "HEADERS_TOO_LARGE")),
    ],
    ids=["with underscores", "too large"],
)
async def test_unusable_headers(
    client: httpx.AsyncClient, headers: dict[str, str], error: tuple[int, int, str]
) -> None:
    assert error_of(await client.get("/api/movies/7", headers=headers)) == error


@pytest.mark.parametrize(
    ("url", "headers"),
    [("/api/movies/%00", {}), ("/api/movies/7%2Fsimilar", {}), ("/api/movies/7", {"some_header": "1"})],
)
@pytest.mark.parametrize("own_id", [{}, {"x-request-id": "1"}])
async def test_what_the_edge_cannot_read_is_told_in_words(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], own_id: dict[str, str]
) -> None:
    """Envoy says nothing of these, or Bad Request; the reason was only in the metadata, by Envoy's name."""
    response = await client.get(url, headers=headers | own_id)
    assert error_of(response) == (400, 3, "INVALID_REQUEST")
    message = response.json()["message"]
    assert message == "Invalid request: the edge cannot read its method, path or headers"


@pytest.mark.row(28)
async def test_body_limit(edge: Edge, client: httpx.AsyncClient) -> None:
    edge.gateway.answer = pb.ListPersonalMoviesResponse()
    largest = b'{"user_id": 7}'.ljust(BODY_LIMIT)
    assert (await client.post(PERSONAL, content=largest)).status_code == 200
    edge.gateway.request = None

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield b" " * 1024

    assert error_of(await client.post(PERSONAL, content=largest + b" ")) == (413, 8, "BODY_TOO_LARGE")
    assert error_of(await client.post(PERSONAL, content=in_pieces())) == (413, 8, "BODY_TOO_LARGE")
    with suppress(httpx.TransportError):  # Envoy closes while this client still sends
        response = await client.post(PERSONAL, content=b" " * 5_000_000)
        assert error_of(response) == (413, 8, "BODY_TOO_LARGE")
    assert edge.gateway.request is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.FAILED_PRECONDITION, 400),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    ],
)
async def test_the_gateways_errors_keep_their_details(
    edge: Edge, client: httpx.AsyncClient, code: grpc.StatusCode, status: int
) -> None:
    number: int = code.value[0]
    violation = error_details_pb2.BadRequest.FieldViolation(field="limit", description="must be at least 0")
    info = error_details_pb2.ErrorInfo(reason="SOME", domain="movierec", metadata={"movie_id": "7"})
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(info)
    details[1].Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    rich = status_pb2.Status(code=number, message="told to fail", details=details)
    edge.gateway.error = code
    edge.gateway.error_trailers = (("grpc-status-details-bin", rich.SerializeToString()),)
    response = await client.get("/api/movies/7")
    assert response.status_code == status
    body = response.json()
    assert (body["code"], body["message"]) == (number, "told to fail")
    assert body["details"][0]["domain"] == "movierec"
    assert body["details"][0]["metadata"] == {"movie_id": "7"}
    assert body["details"][1]["@type"].endswith("google.rpc.BadRequest")


# Headers that gRPC reads


@pytest.mark.parametrize(
    ("header", "readable"),
    [
        ("content-type", "application/json"),
        ("grpc-accept-encoding", "gzip"),
        ("grpc-encoding", "identity"),
        ("grpc-internal-encoding-request", "gzip"),
        ("grpc-message", "a"),
        ("grpc-previous-rpc-attempts", "1"),
        ("grpc-retry-pushback-ms", "1"),
        ("grpc-status", "0"),
        ("grpc-tags-bin", "AAAA"),
        ("grpc-timeout", "1S"),
        ("grpc-trace-bin", "AAAA"),
        ("of-their-own-bin", "AAAA"),
        ("te", "trailers"),
        ("traceparent", f"00-{1:032x}-{1:016x}-01"),
        ("x-envoy-peer-metadata", "AAAA"),
    ],
)
@pytest.mark.parametrize("unreadable", ["***", ""])
async def test_what_grpc_cannot_read_fails_nobody_elses_request(
    edge: Edge, client: httpx.AsyncClient, header: str, readable: str, unreadable: str
) -> None:
    edge.gateway.answer = pb.GetMovieResponse()
    answer = await client.get("/api/movies/7", headers={header: unreadable})
    if answer.status_code != 200:
        assert error_of(answer) == (400, 3, "INVALID_REQUEST")
        assert f"Invalid request: the header {header} must be " in answer.json()["message"]
    others = [await client.get("/api/movies/7", headers={header: readable}) for _ in range(5)]
    others += [await client.get("/api/movies/7") for _ in range(5)]
    assert [other.status_code for other in others] == [200] * 10


@pytest.mark.parametrize("header", ["grpc-timeout", "grpc-encoding", "of-their-own-bin"])
async def test_trailers_of_a_request_do_not_reach_grpc(
    edge: Edge, client: httpx.AsyncClient, header: str
) -> None:
    edge.gateway.answer = pb.GetMovieResponse()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE}/GetMovie",
        ":authority": "edge",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(HTTP2_SETTINGS, b"")
        + _frame(HTTP2_HEADERS, _literals(headers), flags=END_HEADERS, stream=1)
        + _frame(HTTP2_DATA, bytes(5), stream=1)
        + _frame(HTTP2_HEADERS, _literals({header: "***"}), flags=END_HEADERS | END_STREAM, stream=1)
    )
    kind, flags = -1, 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (kind == HTTP2_HEADERS and flags & END_STREAM):  # the answer's trailers
            start = await reader.readexactly(9)
            kind, flags = start[3], start[4]
            await reader.readexactly(int.from_bytes(start[:3], "big"))
    writer.close()
    assert edge.gateway.request == pb.GetMovieRequest()
    others = [await client.get("/api/movies/7") for _ in range(10)]
    assert [other.status_code for other in others] == [200] * 10


def _frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    """A frame of RFC 9113, 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _literals(headers: dict[str, str]) -> bytes:
    """Short headers in the form of RFC 7541, 6.2.2."""
    fields = ((name.encode(), value.encode()) for name, value in headers.items())
    return b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


# Native gRPC


async def test_native_grpc_on_the_same_port(edge: Edge, channel: grpc.aio.Channel) -> None:
    edge.gateway.answer = pb.GetMovieResponse(bundle_id="b1")
    request = pb.GetMovieRequest(movie_id=7)
    answer = await pb_grpc.MovieServiceStub(channel).GetMovie(request)
    assert answer.bundle_id == "b1"
    assert edge.gateway.request == request
    assert edge.gateway.time_remaining is not None  # comes with max_stream_duration
    assert edge.gateway.time_remaining <= 2.1


@pytest.mark.row(29)
@pytest.mark.parametrize(("seconds", "at_most"), [(1, 1.5), (60, 2.1)])
async def test_native_grpc_deadlines(
    edge: Edge, channel: grpc.aio.Channel, seconds: int, at_most: float
) -> None:
    await pb_grpc.MovieServiceStub(channel).GetMovie(pb.GetMovieRequest(), timeout=seconds)
    assert edge.gateway.time_remaining is not None
    assert edge.gateway.time_remaining <= at_most  # clients round up


@pytest.mark.row(28)
async def test_native_grpc_may_be_larger_than_rest(edge: Edge, channel: grpc.aio.Channel) -> None:
    edge.gateway.answer = pb.ListPersonalMoviesResponse()
    request = pb.ListPersonalMoviesRequest(user_id=7, exclude_movie_ids=[2**31 - 1] * 100_000)
    await pb_grpc.MovieServiceStub(channel).ListPersonalMovies(request)
    assert edge.gateway.request == request


@pytest.mark.row(53)
async def test_internal_services_are_not_exposed(edge: Edge, channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await candidate_pb_grpc.CandidateServiceStub(channel).GenerateCandidates(
            candidate_pb.GenerateCandidatesRequest()
        )
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "No such method."


async def test_grpc_on_a_rest_path_does_not_reach_the_gateway(edge: Edge, client: httpx.AsyncClient) -> None:
    response = await client.get("/api/movies/7", headers={"content-type": "application/grpc"})
    assert response.headers["grpc-status"] == "12"
    assert edge.gateway.request is None


# Health


async def test_streams_that_stay_open_take_no_place_of_a_call(edge: Edge, client: httpx.AsyncClient) -> None:
    """270 idle ones made every look-up 429, for as long as they stayed."""
    async with AsyncExitStack() as stack:
        channels = await own_channels(edge, stack)
        health: list[Any] = [health_pb2_grpc.HealthStub(channel) for channel in channels]
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)) for stub in health * 95]
        first = await asyncio.gather(*(anext(aiter(watch)) for watch in watches), return_exceptions=True)
        assert [one.status for one in first if not isinstance(one, BaseException)] == [SERVING] * 16
        refusals = {one.code() for one in first if isinstance(one, grpc.aio.AioRpcError)}
        assert refusals == {grpc.StatusCode.UNAVAILABLE}
        for path in ("/api/movies/7", "/api/movies/7/similar", "/api/movies/popular"):
            assert (await client.get(path)).status_code == 200
        assert await ask_health(channels[0]) == SERVING


async def test_readiness_follows_the_gateways_health(
    edge: Edge, client: httpx.AsyncClient, channel: grpc.aio.Channel
) -> None:
    edge.health.set(SERVICE, NOT_SERVING)
    try:
        await edge.wait_for_readiness(503)
        assert error_of(await client.get("/readyz")) == (503, 14, "GATEWAY_UNAVAILABLE")
        assert (await client.get("/healthz")).status_code == 200
        assert error_of(await client.get("/api/movies/7")) == (503, 14, "GATEWAY_UNAVAILABLE")
        assert edge.gateway.request is None
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.MovieServiceStub(channel).GetMovie(pb.GetMovieRequest())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "no healthy upstream"
    finally:
        edge.health.set(SERVICE, SERVING)
        await edge.wait_for_readiness(200)
    async with asyncio.timeout(PATIENCE_SECONDS):  # readiness turns a moment before the workers know
        while (await client.get("/api/movies/7")).status_code != 200:
            pass


@asynccontextmanager
async def running_edge_with_metrics(directory: Path) -> AsyncIterator[tuple[Edge, httpx.AsyncClient]]:
    """Run an Envoy of the images before a gateway to steer, and a client of its metrics."""
    edge, metrics = Edge(free_port()), ("127.0.0.1", free_port())
    with running_gateway(edge) as gateway:
        place = image_place(port=edge.port, gateways=[gateway], metrics=metrics, mesh_host=None, stages=())
        with running_envoy(directory, place):
            await edge.wait_for_readiness(200)
            async with httpx.AsyncClient(base_url="http://{}:{}".format(*metrics)) as client:
                yield edge, client


async def test_metrics_count_what_the_edge_answered(tmp_path: Path) -> None:
    """Those that no gateway sees too, and not whether it is ready; nothing else of admin is there."""
    async with running_edge_with_metrics(tmp_path) as (edge, metrics):
        edge.health.set(SERVICE, NOT_SERVING)
        await edge.wait_for_readiness(503)
        async with edge.client() as client:
            assert (await client.get("/nothing")).status_code == 404
            assert (await client.get("/api/movies/7")).status_code >= 500
        shown = (await metrics.get("/metrics")).text
        for other in ("/stats", "/metrics?|.*", "/metrics?%7C.*", "/metrics?x=1", "/metrics/", "/readyz"):
            assert (await metrics.get(other)).status_code == 404
    classes = 'envoy_response_code_class="{}",envoy_http_conn_manager_prefix="edge"'
    counts = {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1}
    assert [line for line in shown.splitlines() if line and not line.startswith("#")] == [
        f"{EDGE_METRIC}{{{classes.format(first)}}} {count}" for first, count in counts.items()
    ]


@pytest.mark.row(27)
async def test_an_edge_that_is_full_is_still_seen_to_run(tmp_path: Path) -> None:
    async with running_edge_with_metrics(tmp_path) as (edge, metrics), AsyncExitStack() as stack:
        ends = await idle_connections(edge, stack, CONNECTIONS + 1)
        full, rest = await asyncio.wait(ends, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert full  # any may be the one too many: workers take connections in an order of their own
        for end in rest:
            end.cancel()
        assert (await metrics.get("/healthz")).status_code == 200
        assert (await metrics.get("/metrics")).status_code == 200


async def test_lists_are_refused_before_the_gateway_and_look_ups_go_on(tmp_path: Path) -> None:
    options = Options(deadline_seconds=PATIENCE_SECONDS)
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(running_edge(tmp_path, options))
        edge.gateway.answer = pb.GetMovieResponse()
        client = await stack.enter_async_context(edge.client())
        channels = await own_channels(edge, stack)
        *askers, beside = map(pb_grpc.MovieServiceStub, channels)
        request = pb.ListPersonalMoviesRequest()
        await beside.ListPersonalMovies(request)  # connects: fewer may wait for a connection
        edge.gateway.leave.clear()
        lists = [asyncio.ensure_future(stub.ListPersonalMovies(request)) for stub in askers * 70]
        await asyncio.wait(lists, return_when=asyncio.FIRST_COMPLETED)  # one of the 12 too many

        refused = [
            await client.get(PERSONAL, params={"user_id": 1}),
            await client.post(PERSONAL, json={"user_id": 1}),
            await client.post(f"{PERSONAL}:batch", json={"requests": [{"user_id": 1}]}),
            await client.get("/api/movies/7/why", params={"user_id": 1}),
        ]
        looked_up = [await client.get(f"/api/movies/{path}") for path in ("7", "7/similar", "popular")]
        await beside.GetMovie(pb.GetMovieRequest())
        await beside.ListPopularMovies(pb.ListPopularMoviesRequest())
        await beside.ListSimilarMovies(pb.ListSimilarMoviesRequest())
        health = await ask_health(channels[-1])

        edge.gateway.leave.set()
        ends = await asyncio.gather(*lists, return_exceptions=True)
    assert {error_of(answer) for answer in refused} == {(429, 8, "OVERLOADED")}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert {answer.status_code for answer in looked_up} == {200}
    assert health == SERVING  # full is not dead
    assert sum(isinstance(end, grpc.aio.AioRpcError) for end in ends) == 12


async def test_lists_and_look_ups_have_a_rate_each_and_health_has_none(tmp_path: Path) -> None:
    async with (
        running_edge(tmp_path, Options(requests_per_second=3)) as edge,
        edge.client() as client,
        edge.channel() as channel,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        edge.gateway.answer = pb.GetMovieResponse()
        while (refused := await client.get(PERSONAL, params={"user_id": 1})).status_code == 200:
            pass
        assert error_of(refused) == (429, 8, "OVERLOADED")
        assert (await client.get("/api/movies/7")).status_code == 200
        assert await ask_health(channel) == SERVING
        await pb_grpc.MovieServiceStub(channel).GetMovie(pb.GetMovieRequest())
        while (refused := await client.get("/api/movies/7")).status_code == 200:
            pass
        assert error_of(refused) == (429, 8, "OVERLOADED")
        assert refused.headers["retry-after"] == "1"
        answers = [pb_grpc.MovieServiceStub(channel).GetMovie(pb.GetMovieRequest()).code() for _ in range(30)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in set(await asyncio.gather(*answers))
        assert {(await client.get("/healthz")).status_code for _ in range(30)} == {200}
        await edge.wait_for_readiness(200)


@pytest.mark.row(58)
async def test_output_is_a_log_without_user_ids_or_warnings(tmp_path: Path) -> None:
    edge = Edge(free_port())
    with running_envoy(tmp_path, demo_place(port=edge.port, gateway_port=free_port())) as output:
        await edge.wait_for_readiness(503)  # there is no gateway at all
        before_stop = output.read_text()
        async with edge.client() as client:
            assert (await client.get("/healthz")).status_code == 200
            response = await client.get(f"{PERSONAL}?user_id=4711")
            assert error_of(response) == (503, 14, "GATEWAY_UNAVAILABLE")
            assert error_of(await client.get("/api/users/4711")) == (503, 14, "GATEWAY_UNAVAILABLE")
            assert error_of(await client.get("/api//users/4711/x")) == (404, 5, "UNKNOWN_PATH")
    assert before_stop == ""
    entries: list[dict[str, Any]] = [
        json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")
    ]
    assert [(entry["path"], entry["status"]) for entry in entries] == [
        ("/healthz", 200),
        (PERSONAL, 503),
        ("/api/users/{user_id}", 503),
        ("/api/users/{user_id}", 404),
    ]
    assert entries[1]["request_id"] == response.headers["x-request-id"]
    assert "4711" not in output.read_text()


async def own_channels(edge: Edge, stack: AsyncExitStack) -> list[grpc.aio.Channel]:
    """Three, each on a connection of its own: one takes 100 calls."""
    options = ("grpc.use_local_subchannel_pool", 1)
    return [await stack.enter_async_context(edge.channel(options)) for _ in range(3)]


async def ask_health(channel: grpc.aio.Channel) -> int:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer: health_pb2.HealthCheckResponse = await check(health_pb2.HealthCheckRequest(service=SERVICE))
    return answer.status


async def test_reflection(edge: Edge, channel: grpc.aio.Channel) -> None:
    ask = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = [s.name async for answer in answers for s in answer.list_services_response.service]
    assert SERVICE in names
