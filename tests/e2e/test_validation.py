"""The table of rules through the edge: each field accepted and refused, by REST and by gRPC on one port."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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
REST_BODY_BYTES = 64 * 1_024
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
WHY = Method("WhyMovie", pb.WhyMovieRequest, get="/api/movies/{movie_id}/why")
BATCH = Method(
    "BatchListPersonalMovies", pb.BatchListPersonalMoviesRequest, post="/api/movies/personal:batch"
)

BASES: dict[str, Fields] = {
    POPULAR.name: {},
    PERSONAL.name: {"user_id": 1},
    SIMILAR.name: {"movie_id": 1},
    MOVIE.name: {"movie_id": 1},
    WHY.name: {"movie_id": 1, "user_id": 1},
    BATCH.name: {},
}
"""What every request of a method has, unless a row of the table says otherwise."""


@dataclass(frozen=True)
class Row:
    """Values of one field: what is accepted, and what is refused in whose name."""

    methods: Sequence[Method]
    accepted: Sequence[Fields]
    refused: Sequence[tuple[Fields, Sequence[str]]]


def rated(*movie_ids: int, rating: float | str | None = None) -> list[Fields]:
    return [{"movie_id": i} if rating is None else {"movie_id": i, "rating": rating} for i in movie_ids]


def filtered(**fields: Any) -> Fields:
    return {"filter": fields}


def numbered(n: int) -> list[str]:
    return [f"genre {place}" for place in range(n)]


def genres_of(name: str) -> Row:
    """The rows of genres that are wanted and of those that are not."""
    path = f"filter.{name}"
    return Row(
        FILTERED,
        accepted=[
            filtered(**{name: value})
            for value in ([], ["x"], ["x" * 40], numbered(20), ["Telenovela"], ["ドラマ"])
        ],
        refused=[
            (filtered(**{name: numbered(21)}), [path]),
            (filtered(**{name: ["War", "Drama", "War"]}), [f"{path}[2]"]),
            (filtered(**{name: [""]}), [f"{path}[0]"]),
            (filtered(**{name: ["War", "x" * 41]}), [f"{path}[1]"]),
            (filtered(**{name: ["Wa\x7fr"]}), [f"{path}[0]"]),
        ],
    )


FILTERED = (POPULAR, PERSONAL, SIMILAR, WHY)
EXPLAINED: Fields = {"user_id": 1, "limit": 100, "explain_features": 100}  # 10,000 contributions

TABLE: dict[str, Row] = {
    "movie_id": Row(
        (MOVIE, SIMILAR, WHY),
        accepted=[{"movie_id": 1}],  # the highest is in no catalogue: below
        refused=[({"movie_id": value}, ["movie_id"]) for value in (0, -1, -MAX_INT32)],
    ),
    "user_id": Row(
        (PERSONAL, WHY),
        accepted=[{"user_id": 1}, {"user_id": MAX_INT64}],
        refused=[({"user_id": value}, ["user_id"]) for value in (0, -1, -MAX_INT64)],
    ),
    "user_id beside a history": Row(
        (PERSONAL,),
        accepted=[{"user_id": user, "history": rated(1)} for user in (0, 1, MAX_INT64)],
        refused=[({"user_id": -1, "history": rated(1)}, ["user_id"])],
    ),
    "exclude_seen_by_user_id": Row(
        (POPULAR, SIMILAR),
        accepted=[{}, {"exclude_seen_by_user_id": 1}, {"exclude_seen_by_user_id": MAX_INT64}],
        refused=[({"exclude_seen_by_user_id": v}, ["exclude_seen_by_user_id"]) for v in (0, -1)],
    ),
    "limit": Row(
        FILTERED,
        accepted=[{"limit": value} for value in (0, 1, 100, 101, MAX_INT32)],
        refused=[({"limit": value}, ["limit"]) for value in (-1, -MAX_INT32)],
    ),
    "offset": Row(
        (POPULAR,),
        accepted=[{"offset": value} for value in (0, 1, 100_000)],
        refused=[({"offset": value}, ["offset"]) for value in (-1, 100_001, MAX_INT32)],
    ),
    "exclude_movie_ids": Row(
        (PERSONAL, WHY),
        accepted=[{"exclude_movie_ids": value} for value in ([], [MAX_INT32], [7, 7], list(range(2, 1_002)))],
        refused=[
            ({"exclude_movie_ids": list(range(2, 1_003))}, ["exclude_movie_ids"]),
            ({"exclude_movie_ids": [5, 0, -1]}, ["exclude_movie_ids[1]", "exclude_movie_ids[2]"]),
        ],
    ),
    "history": Row(
        (PERSONAL,),
        accepted=[{"history": rated(*range(1, 501))}, {"history": rated(MAX_INT32)}],
        refused=[
            ({"history": rated(*range(1, 502))}, ["history"]),
            ({"history": rated(3, 4, 3)}, ["history[2].movie_id"]),
            ({"history": rated(3, 0, -1)}, ["history[1].movie_id", "history[2].movie_id"]),
        ],
    ),
    "history.rating": Row(
        (PERSONAL,),
        accepted=[{"history": rated(1, rating=value)} for value in (0.5, 3.25, 5)],
        refused=[
            ({"history": rated(1, rating=value)}, ["history[0].rating"])
            for value in (0, 0.25, 5.5, -1, "NaN", "Infinity", "-Infinity")
        ],
    ),
    "diversity": Row(
        (PERSONAL,),
        accepted=[{"diversity": value} for value in (0, 0.5, 1)],
        refused=[({"diversity": v}, ["diversity"]) for v in (-0.25, 1.25, "NaN", "Infinity", "-Infinity")],
    ),
    "explain_features": Row(
        (PERSONAL, WHY),
        accepted=[{"explain_features": value} for value in (0, 1, 100)],
        refused=[({"explain_features": value}, ["explain_features"]) for value in (-1, 101)],
    ),
    "because_of": Row(
        (PERSONAL,),
        accepted=[{"because_of": value} for value in (0, 1, 3)],
        refused=[({"because_of": value}, ["because_of"]) for value in (-1, 4)],
    ),
    "filter.genres": genres_of("genres"),
    "filter.exclude_genres": genres_of("exclude_genres"),
    "filter.min_year, filter.max_year": Row(
        FILTERED,
        accepted=[filtered(min_year=1870), filtered(max_year=2200), filtered(min_year=1999, max_year=1999)],
        refused=[
            (filtered(min_year=1869), ["filter.min_year"]),
            (filtered(max_year=0), ["filter.max_year"]),
            (filtered(min_year=2201, max_year=2201), ["filter.min_year", "filter.max_year"]),
            (filtered(min_year=2000, max_year=1999), ["filter.min_year"]),
        ],
    ),
    "fallback_policy": Row(
        (PERSONAL, SIMILAR),
        accepted=[{"fallback_policy": value} for value in (0, 1, 2)],
        refused=[({"fallback_policy": value}, ["fallback_policy"]) for value in (3, MAX_INT32, -1)],
    ),
    "requests": Row(
        (BATCH,),
        accepted=[{"requests": [{"user_id": 1}] * n} for n in (1, 100)]
        + [{"requests": [EXPLAINED] * 2}, {"requests": [{"user_id": 1, "fallback_policy": 1}]}],
        refused=[
            ({}, ["requests"]),
            ({"requests": [{"user_id": 1}] * 101}, ["requests"]),
            ({"requests": [EXPLAINED, EXPLAINED, {"user_id": 1, "explain_features": 1}]}, ["requests"]),
            (
                {"requests": [{"user_id": 1}, {"user_id": 1, "fallback_policy": 2}]},
                ["requests[1].fallback_policy"],
            ),
            (
                {"requests": [{"limit": -1}, {"user_id": 1}, {"user_id": 1, "history": rated(0)}]},
                ["requests[0].user_id", "requests[0].limit", "requests[2].history[0].movie_id"],
            ),
        ],
    ),
    "all at once": Row(
        (PERSONAL,),
        accepted=[],
        refused=[
            (
                {
                    "user_id": -1,
                    "limit": -1,
                    "filter": {"genres": [""], "exclude_genres": ["a", "a"], "min_year": 1},
                    "exclude_movie_ids": [0],
                    "history": rated(1, 1, rating=9),
                    "diversity": 2,
                    "explain_features": -1,
                    "because_of": 4,
                    "fallback_policy": 9,
                },
                [
                    "user_id",
                    "limit",
                    "filter.genres[0]",
                    "filter.exclude_genres[1]",
                    "filter.min_year",
                    "exclude_movie_ids[0]",
                    "history[0].rating",
                    "history[1].rating",
                    "history[1].movie_id",
                    "diversity",
                    "explain_features",
                    "fallback_policy",
                    "because_of",
                ],
            )
        ],
    ),
}


@dataclass(frozen=True)
class Case:
    """One request, and the fields that it is refused for: none when it is accepted."""

    method: Method
    fields: Fields
    refused_for: Sequence[str]

    @property
    def message(self) -> Message:
        """As gRPC sends it."""
        return json_format.ParseDict(self.fields, self.method.request())

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


def cases() -> Iterator[Any]:
    for name, row in TABLE.items():
        for method in row.methods:
            rows = [(fields, ()) for fields in row.accepted] + list(row.refused)
            for place, (fields, refused_for) in enumerate(rows):
                outcome = "refused" if refused_for else "accepted"
                case = Case(method, {**BASES[method.name], **fields}, refused_for)
                yield pytest.param(case, id=f"{name}-{method.name}-{outcome}-{place}")


CASES = list(cases())


@pytest.fixture
async def channel(system: System) -> AsyncIterator[aio.Channel]:
    async with open_channel(f"127.0.0.1:{system.plan.envoy_port.number}") as channel:
        yield channel


def status_of(error: aio.AioRpcError) -> status_pb2.Status:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # typed for calls that block
    assert isinstance(status, status_pb2.Status)
    return status


def check_refusal(failure: Failure, fields: Sequence[str]) -> None:
    """Refused by the gateway, in the name of these fields and no others."""
    assert failure.status.code == code_pb2.INVALID_ARGUMENT
    assert (failure.info.reason, failure.info.domain) == ("INVALID_REQUEST", "movierec")
    violations = failure.detail(error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == list(fields)
    assert all(violation.description.startswith("must ") for violation in violations)


def refusal(response: httpx.Response) -> Failure:
    assert response.status_code == 400
    return Failure(400, json_format.Parse(response.text, status_pb2.Status()))


def check_answer(response: httpx.Response, refused_for: Sequence[str]) -> None:
    """Accepted, or refused by the gateway for these fields."""
    if refused_for:
        check_refusal(refusal(response), refused_for)
    else:
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("case", CASES)
def test_by_rest(rest: Rest, case: Case) -> None:
    assert case.url or case.method.post, "REST has no way to say it"
    if case.method.post is not None:
        check_answer(rest.client.post(case.method.post, json=case.fields), case.refused_for)
    if case.url is None:
        return
    response = rest.client.get(case.url)
    if case.refused_for == ["fallback_policy"]:  # of a query, the edge itself refuses undefined values
        failure = refusal(response)
        assert (failure.info.reason, failure.info.domain) == ("INVALID_REQUEST", "envoy")
        assert "fallback_policy: invalid value" in failure.status.message
    else:
        check_answer(response, case.refused_for)


@pytest.mark.parametrize("case", CASES)
async def test_by_grpc(channel: aio.Channel, case: Case) -> None:
    call = getattr(MovieServiceStub(channel), case.method.name)
    if not case.refused_for:
        await call(case.message, timeout=SECONDS)
        return
    with pytest.raises(aio.AioRpcError) as caught:
        await call(case.message, timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    check_refusal(Failure(400, status_of(caught.value)), case.refused_for)


def test_no_rule_is_left_out() -> None:
    refused = {
        re.sub(r"\[\d+\]", "[]", field).removeprefix("requests[].")
        for row in TABLE.values()
        for _, fields in row.refused
        for field in fields
    }
    assert refused | {"history[].rate_time"} == {*LIMITS, "fallback_policy"}  # that one JSON cannot say


@pytest.mark.parametrize("seconds", [1_600_000_000_000, -62_135_596_801])
async def test_a_time_that_json_cannot_say(channel: aio.Channel, seconds: int) -> None:
    rated = pb.RatedMovie(movie_id=1, rate_time=Timestamp(seconds=seconds))
    request = pb.ListPersonalMoviesRequest(history=[rated])
    with pytest.raises(aio.AioRpcError) as caught:
        await MovieServiceStub(channel).ListPersonalMovies(request, timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    check_refusal(Failure(400, status_of(caught.value)), ["history[0].rate_time"])


@pytest.mark.parametrize("method", [MOVIE, SIMILAR, WHY], ids=lambda method: method.name)
async def test_a_movie_that_is_in_no_catalogue(rest: Rest, channel: aio.Channel, method: Method) -> None:
    case = Case(method, {**BASES[method.name], "movie_id": MAX_INT32}, ())
    assert case.url is not None
    by_rest = rest.failure(case.url)
    with pytest.raises(aio.AioRpcError) as caught:
        await getattr(MovieServiceStub(channel), method.name)(case.message, timeout=SECONDS)
    assert by_rest.http_status == 404
    assert (by_rest.info.reason, dict(by_rest.info.metadata)) == (
        "UNKNOWN_MOVIE",
        {"movie_id": str(MAX_INT32)},
    )
    assert status_of(caught.value) == by_rest.status


async def test_an_unknown_user_who_wants_nothing_else(rest: Rest, channel: aio.Channel) -> None:
    case = Case(PERSONAL, {"user_id": MAX_INT64, "fallback_policy": "FALLBACK_POLICY_DENY"}, ())
    assert case.url is not None
    by_rest = rest.failure(case.url)
    with pytest.raises(aio.AioRpcError) as caught:
        await getattr(MovieServiceStub(channel), PERSONAL.name)(case.message, timeout=SECONDS)
    assert (by_rest.http_status, by_rest.info.reason) == (404, "UNKNOWN_USER")
    assert status_of(caught.value) == by_rest.status


def test_a_history_of_unknown_movies_is_that_of_an_unknown_user(rest: Rest) -> None:
    answer = rest.personal_by_post({"history": rated(MAX_INT32)})
    assert (answer.model, answer.degraded) == ("popularity_fallback", False)
    assert answer.fallback_reason == pb.FALLBACK_REASON_UNKNOWN_USER


def test_the_largest_body(rest: Rest) -> None:
    assert PERSONAL.post is not None
    largest = json.dumps({"user_id": 1}).encode().ljust(REST_BODY_BYTES)
    assert rest.client.post(PERSONAL.post, content=largest).status_code == 200
    response = rest.client.post(PERSONAL.post, content=largest + b" ")
    assert response.status_code == 413
    failure = Failure(413, json_format.Parse(response.text, status_pb2.Status()))
    assert failure.status.code == code_pb2.RESOURCE_EXHAUSTED
    assert (failure.info.reason, failure.info.domain) == ("BODY_TOO_LARGE", "envoy")


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
