"""Rules through the edge: each field refused by REST, some by gRPC on the same port, and what is accepted.

The tables of all values are in `tests/serving/test_checks.py` and `tests/gateway/test_validation.py`.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import grpc
import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.limits import LIMITS
from serving.rpc.channels import open_channel
from tests.e2e.rest import Failure, Rest
from tests.e2e.system import System

pytestmark = pytest.mark.e2e

SECONDS = 60.0  # ample: no test is decided by it
MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
LONGEST_URL = 32 * 1_024  # what is longer belongs into a body
GRPC_MESSAGE_BYTES = 1_024 * 1_024

Fields = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One rpc, and how REST spells it."""

    name: str
    request: Callable[[], Message]
    get: str | None = None
    """Path of the GET; fields fill its braces, the others become the query."""
    post: str | None = None


POPULAR = Method("ListPopularMovies", pb.ListPopularMoviesRequest, get="/api/movies/popular")
PERSONAL = Method(
    "ListPersonalMovies",
    pb.ListPersonalMoviesRequest,
    get="/api/movies/personal",
    post="/api/movies/personal",
)
SIMILAR = Method("ListSimilarMovies", pb.ListSimilarMoviesRequest, get="/api/movies/{movie_id}/similar")
MOVIE = Method("GetMovie", pb.GetMovieRequest, get="/api/movies/{movie_id}")
SEARCH = Method("SearchMovies", pb.SearchMoviesRequest, get="/api/movies:search")
TASTE = Method("ListTasteMovies", pb.ListTasteMoviesRequest, get="/api/movies/taste")
USER = Method("GetUser", pb.GetUserRequest, get="/api/users/{user_id}")
STATUS = Method("GetStatus", pb.GetStatusRequest, get="/api/status")
WHY = Method("WhyMovie", pb.WhyMovieRequest, get="/api/movies/{movie_id}/why")
BATCH = Method(
    "BatchListPersonalMovies", pb.BatchListPersonalMoviesRequest, post="/api/movies/personal:batch"
)


def rated(*movie_ids: int, rating: float | str | None = None) -> list[Fields]:
    return [{"movie_id": i} if rating is None else {"movie_id": i, "rating": rating} for i in movie_ids]


def filtered(**fields: Any) -> Fields:
    return {"filter": fields}


def numbered(n: int) -> list[str]:
    return [f"genre {place}" for place in range(n)]


REFUSED: dict[str, tuple[Method, Fields]] = {
    "movie_id": (SIMILAR, {"movie_id": 0}),
    "user_id": (USER, {"user_id": -MAX_INT64}),
    "exclude_seen_by_user_id": (POPULAR, {"exclude_seen_by_user_id": 0}),
    "limit": (SIMILAR, {"movie_id": 1, "limit": -1}),
    "offset": (POPULAR, {"offset": 100_001}),
    "order": (POPULAR, {"order": 3}),
    "query": (SEARCH, {"query": "q" * 101}),
    "exclude_movie_ids": (PERSONAL, {"user_id": 1, "exclude_movie_ids": list(range(1, 1_002))}),
    "exclude_movie_ids[1]": (WHY, {"movie_id": 1, "user_id": 1, "exclude_movie_ids": [5, 0]}),
    "history": (PERSONAL, {"history": rated(*range(1, 502))}),
    "history[2].movie_id": (PERSONAL, {"history": rated(3, 4, 3)}),
    "history[0].rating": (PERSONAL, {"history": rated(1, rating="NaN")}),
    "diversity": (PERSONAL, {"user_id": 1, "diversity": 1.25}),
    "explain_features": (WHY, {"movie_id": 1, "user_id": 1, "explain_features": 101}),
    "because_of": (PERSONAL, {"user_id": 1, "because_of": -1}),
    "bundle_id": (PERSONAL, {"user_id": 1, "bundle_id": "no-such-bundle"}),
    "filter.genres": (POPULAR, filtered(genres=numbered(21))),
    "filter.genres[1]": (POPULAR, filtered(genres=["War", "Wa\x7fr"])),
    "filter.genres[0]": (PERSONAL, {"user_id": 1, **filtered(genres=["Telenovela"])}),
    "filter.exclude_genres": (SIMILAR, {"movie_id": 1, **filtered(exclude_genres=numbered(21))}),
    "filter.exclude_genres[2]": (
        SIMILAR,
        {"movie_id": 1, **filtered(exclude_genres=["War", "Drama", "War"])},
    ),
    "filter.min_year": (PERSONAL, {"user_id": 1, **filtered(min_year=2000, max_year=1999)}),
    "filter.max_year": (WHY, {"movie_id": 1, "user_id": 1, **filtered(max_year=2201)}),
    "fallback_policy": (PERSONAL, {"user_id": 1, "fallback_policy": 3}),
    "requests": (BATCH, {"requests": [{"user_id": 1}] * 101}),
    "requests[1].fallback_policy": (
        BATCH,
        {"requests": [{"user_id": 1}, {"user_id": 1, "fallback_policy": 2}]},
    ),
}
"""By the field that the answer names, a request that breaks one rule."""

BY_GRPC = (
    "movie_id",
    "user_id",
    "exclude_seen_by_user_id",
    "exclude_movie_ids[1]",
    "history[2].movie_id",
    "history[0].rating",
    "diversity",
    "filter.exclude_genres[2]",
    "fallback_policy",
    "requests[1].fallback_policy",
)
"""Those that are refused by gRPC, too: of each kind one."""

AT_MOST: Fields = {
    "limit": MAX_INT32,
    "exclude_movie_ids": list(range(2, 1_002)),
    "explain_features": 100,
    "filter": {"genres": ["war"], "exclude_genres": ["Drama"], "min_year": 1870, "max_year": 2200},
}

ACCEPTED: dict[str, tuple[Method, Fields]] = {
    "popular": (POPULAR, {"offset": 100_000, "exclude_seen_by_user_id": MAX_INT64}),
    "personal": (PERSONAL, {**AT_MOST, "user_id": MAX_INT64, "diversity": 1, "because_of": 3}),
    "personal, known": (PERSONAL, {"user_id": 1, "fallback_policy": 2}),
    "personal, rated": (PERSONAL, {**AT_MOST, "history": rated(MAX_INT32, *range(1, 500), rating=3.25)}),
    "similar": (SIMILAR, {"movie_id": 1, "limit": 101, "fallback_policy": 1, **filtered(genres=["WAR"])}),
    "movie": (MOVIE, {"movie_id": 1}),
    "search": (SEARCH, {"query": "q" * 100, "limit": 101, **filtered(genres=["WAR"])}),
    "popular, trending": (POPULAR, {"order": "POPULAR_ORDER_TRENDING"}),
    "taste": (TASTE, {"limit": MAX_INT32}),
    "user": (USER, {"user_id": 1, "limit": MAX_INT32}),
    "status": (STATUS, {}),
    "why": (WHY, {**AT_MOST, "movie_id": 1, "user_id": MAX_INT64}),
    "batch": (BATCH, {"requests": [{"user_id": 1}] * 100}),
}
"""Values at their bounds; the highest movie_id is in no catalogue: below."""


@dataclass(frozen=True)
class Case:
    """One request."""

    method: Method
    fields: Fields

    async def by_grpc(self, channel: aio.Channel) -> None:
        """Send it by gRPC."""
        message = json_format.ParseDict(self.fields, self.method.request())
        await getattr(MovieServiceStub(channel), self.method.name)(message, timeout=SECONDS)

    @property
    def url(self) -> str | None:
        """As GET sends it; None where no query string can say it."""
        if self.method.get is None or "history" in self.fields:
            return None
        query = [
            (key, value) for key, value in flattened(self.fields) if "{" + key + "}" not in self.method.get
        ]
        url = f"{self.method.get.format_map(self.fields)}?{urlencode(query)}"
        return None if len(url) > LONGEST_URL else url


def flattened(fields: Fields, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields as a query string has them: dotted paths, repeated for lists."""
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield from ((prefix + key, one) for one in (value if isinstance(value, list) else [value]))


@pytest.fixture
async def channel(system: System) -> AsyncIterator[aio.Channel]:
    async with open_channel(f"127.0.0.1:{system.plan.envoy_port.number}") as channel:
        yield channel


def status_of(error: aio.AioRpcError) -> status_pb2.Status:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # typed for calls that block
    assert isinstance(status, status_pb2.Status)
    return status


def check_refusal(failure: Failure, field: str) -> None:
    """Refused by the gateway, in the name of this field and no other."""
    assert failure.status.code == code_pb2.INVALID_ARGUMENT
    assert (failure.info.reason, failure.info.domain) == ("INVALID_REQUEST", "movierec")
    (violation,) = failure.detail(error_details_pb2.BadRequest).field_violations
    assert violation.field == field
    assert violation.description.startswith("must ")


def refusal(response: httpx.Response) -> Failure:
    assert response.status_code == 400
    return Failure(400, json_format.Parse(response.text, status_pb2.Status()))


@pytest.mark.parametrize("case", [Case(*row) for row in ACCEPTED.values()], ids=ACCEPTED)
async def test_accepted(rest: Rest, channel: aio.Channel, case: Case) -> None:
    if case.method.post is not None:
        response = rest.client.post(case.method.post, json=case.fields)
        assert response.status_code == 200, response.text
    if case.url is not None:
        response = rest.client.get(case.url)
        assert response.status_code == 200, response.text
    await case.by_grpc(channel)


@pytest.mark.row(22, 23)
@pytest.mark.parametrize("field", REFUSED)
def test_refused_by_rest(rest: Rest, field: str) -> None:
    case = Case(*REFUSED[field])
    assert case.url or case.method.post, "REST has no way to say it"
    if case.method.post is not None:
        check_refusal(refusal(rest.client.post(case.method.post, json=case.fields)), field)
    if case.url is None:
        return
    failure = refusal(rest.client.get(case.url))
    if field in {"fallback_policy", "order"}:  # of a query, the edge itself refuses undefined values
        assert (failure.info.reason, failure.info.domain) == ("INVALID_REQUEST", "envoy")
        assert f"{field}: invalid value" in failure.status.message
    else:
        check_refusal(failure, field)


@pytest.mark.row(22)
@pytest.mark.parametrize("field", BY_GRPC)
async def test_refused_by_grpc(channel: aio.Channel, field: str) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await Case(*REFUSED[field]).by_grpc(channel)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    check_refusal(Failure(400, status_of(caught.value)), field)


def test_no_field_is_left_out() -> None:
    refused = {re.sub(r"\[\d+\]", "[]", field).removeprefix("requests[].") for field in REFUSED}
    assert refused | {"history[].rate_time"} == {
        *LIMITS,
        "fallback_policy",
        "order",
    }  # that one JSON cannot say


@pytest.mark.parametrize("seconds", [1_600_000_000_000, -62_135_596_801])
async def test_a_time_that_json_cannot_say(channel: aio.Channel, seconds: int) -> None:
    rated = pb.RatedMovie(movie_id=1, rate_time=Timestamp(seconds=seconds))
    request = pb.ListPersonalMoviesRequest(history=[rated])
    with pytest.raises(aio.AioRpcError) as caught:
        await MovieServiceStub(channel).ListPersonalMovies(request, timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    check_refusal(Failure(400, status_of(caught.value)), "history[0].rate_time")


@pytest.mark.parametrize(
    ("method", "fields"), [(MOVIE, {}), (SIMILAR, {}), (WHY, {"user_id": 1})], ids=["movie", "similar", "why"]
)
async def test_a_movie_that_is_in_no_catalogue(
    rest: Rest, channel: aio.Channel, method: Method, fields: Fields
) -> None:
    case = Case(method, {"movie_id": MAX_INT32, **fields})
    assert case.url is not None
    by_rest = rest.failure(case.url)
    with pytest.raises(aio.AioRpcError) as caught:
        await case.by_grpc(channel)
    assert by_rest.http_status == 404
    assert (by_rest.info.reason, dict(by_rest.info.metadata)) == (
        "UNKNOWN_MOVIE",
        {"movie_id": str(MAX_INT32)},
    )
    assert by_rest.detail(error_details_pb2.ResourceInfo).resource_name == str(MAX_INT32)
    assert status_of(caught.value) == by_rest.status


@pytest.mark.row(14)
@pytest.mark.parametrize(
    ("method", "fields"),
    [(PERSONAL, {"fallback_policy": "FALLBACK_POLICY_DENY"}), (USER, {})],
    ids=["personal, denying fallbacks", "user"],
)
async def test_an_unknown_user(rest: Rest, channel: aio.Channel, method: Method, fields: Fields) -> None:
    case = Case(method, {"user_id": MAX_INT64, **fields})
    assert case.url is not None
    by_rest = rest.failure(case.url)
    with pytest.raises(aio.AioRpcError) as caught:
        await case.by_grpc(channel)
    assert (by_rest.http_status, by_rest.info.reason) == (404, "UNKNOWN_USER")
    assert dict(by_rest.info.metadata) == {"user_id": str(MAX_INT64)}
    assert status_of(caught.value) == by_rest.status


def test_a_history_of_unknown_movies_is_that_of_an_unknown_user(rest: Rest) -> None:
    answer = rest.personal_by_post({"history": rated(MAX_INT32)})
    assert (answer.model, answer.degraded) == ("popularity_fallback", False)
    assert answer.fallback_reason == pb.FALLBACK_REASON_UNKNOWN_USER


@pytest.mark.row(28)
async def test_the_largest_message(channel: aio.Channel) -> None:
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        f"/movierec.gateway.v1.MovieService/{PERSONAL.name}"
    )
    known = pb.ListPersonalMoviesRequest(user_id=1).SerializeToString()
    unknown = b"\x82\x7d"  # field 2000, of bytes, which a newer client might send
    length_of_length = 3
    padding = GRPC_MESSAGE_BYTES - len(known) - len(unknown) - length_of_length
    largest = known + unknown + varint(padding) + bytes(padding)
    assert len(largest) == GRPC_MESSAGE_BYTES
    answer = pb.ListPersonalMoviesResponse.FromString(await call(largest, timeout=SECONDS))
    assert answer.model == "two_stage"
    larger = known + unknown + varint(padding + 1) + bytes(padding + 1)
    with pytest.raises(aio.AioRpcError) as caught:
        await call(larger, timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def varint(value: int) -> bytes:
    """As protobuf writes lengths: seven bits a byte, the lowest first."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])
