"""A field given twice is refused: each one of each method, in any two places of a REST request."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import httpx
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from deploy import unique_fields
from movierec.gateway.v1 import movie_service_pb2 as pb
from tests.deploy.edge import ROOT, Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

Path: TypeAlias = tuple[FieldDescriptor, ...]
"""A field, after those that it is in."""

TIMESTAMP = "google.protobuf.Timestamp"
VALUES = {
    FieldDescriptor.CPPTYPE_BOOL: "true",
    FieldDescriptor.CPPTYPE_ENUM: '"FALLBACK_POLICY_ALLOW"',
    FieldDescriptor.CPPTYPE_FLOAT: "0.5",
    FieldDescriptor.CPPTYPE_INT32: "3",
    FieldDescriptor.CPPTYPE_INT64: "3",
    FieldDescriptor.CPPTYPE_STRING: '"heat"',
    FieldDescriptor.CPPTYPE_MESSAGE: '"2020-01-01T00:00:00Z"',  # the only scalar that is a message
}
PERSONAL = "/api/movies/personal"


@dataclass(frozen=True)
class Binding:
    """A path of the REST API."""

    verb: str
    template: str
    has_body: bool
    message: Descriptor


@dataclass(frozen=True)
class Request:
    """One request, and the field that it gives twice."""

    url: str
    body: str | None
    field: str
    where: str
    """As the rule says it."""


def bindings() -> Iterator[Binding]:
    """Every path of every method."""
    for method in pb.DESCRIPTOR.services_by_name["MovieService"].methods:
        http = method.GetOptions().Extensions[annotations_pb2.http]
        for rule in (http, *http.additional_bindings):
            verb = str(rule.WhichOneof("pattern"))
            yield Binding(verb, getattr(rule, verb), bool(rule.body), method.input_type)


def scalars(message: Descriptor, *, lists: bool, before: Path = ()) -> Iterator[Path]:
    """The scalar fields of a message and of those in it; of messages in lists too, if `lists`."""
    for field in message.fields:
        held = field.message_type
        if held is not None and held.full_name != TIMESTAMP:
            if lists or not field.is_repeated:
                yield from scalars(held, lists=lists, before=(*before, field))
        elif not field.is_repeated:
            yield (*before, field)


def spellings(path: Path) -> list[str]:
    """As a query has them; the last two hide the name from whoever does not decode it."""
    names = {".".join(f.name for f in path), ".".join(f.json_name for f in path)}
    return [*sorted(names), *(f"%{ord(name[0]):02x}{name[1:]}" for name in sorted(names))]


def shown(path: Path) -> str:
    """As a violation names it."""
    parts = [f.name + "[0]" * (f.is_repeated and f is not path[-1]) for f in path]
    return ".".join(parts)


def keys(path: Path) -> list[str]:
    """As a body has the last of them; the last key is escaped."""
    names = sorted({path[-1].name, path[-1].json_name})
    return [*map(json.dumps, names), f'"\\u{ord(names[0][0]):04x}{names[0][1:]}"']


def body(path: Path, *members: tuple[str, str]) -> str:
    """A body with these members where the last field of a path stands."""
    text = "{" + ", ".join(map(": ".join, members)) + "}"
    for field in reversed(path[:-1]):
        text = f'{{"{field.name}": {f"[{text}]" if field.is_repeated else text}}}'
    return text


def requests(binding: Binding) -> Iterator[Request]:
    """Every way to give a field twice."""
    url = binding.template.format(movie_id=7, user_id=7)
    for path in scalars(binding.message, lists=False):
        value = VALUES[path[-1].cpp_type]
        queries = [f"{name}={value}".replace('"', "") for name in spellings(path)]
        if f"{{{shown(path)}}}" in binding.template:
            for query in queries:
                yield Request(f"{url}?{query}", None, shown(path), "not in the path and in the query")
        else:
            for one, other in product(queries, repeat=2):
                yield Request(f"{url}?{one}&{other}", None, shown(path), "not twice in the query")
        for query, key, given in product(queries, keys(path), (value, "null")) if binding.has_body else ():
            in_body = body(path, (key, given))
            yield Request(f"{url}?{query}", in_body, shown(path), "not in the body and in the query")
    for path in scalars(binding.message, lists=True) if binding.has_body else ():
        value = VALUES[path[-1].cpp_type]
        for one, other in product(keys(path), repeat=2):
            in_body = body(path, (one, value), (other, "null"))
            yield Request(url, in_body, shown(path), "not twice in the body")


def violation_of(response: httpx.Response) -> dict[str, str]:
    """The one field violation of a refusal."""
    assert response.status_code == 400, response.text
    status = response.json()
    info, bad_request = status["details"]
    assert (status["code"], info["reason"], info["domain"]) == (3, "INVALID_REQUEST", "envoy")
    assert bad_request["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    (violation,) = bad_request["field_violations"]
    assert status["message"] == f"Invalid request: {violation['field']}: {violation['description']}"
    return dict(violation)


@pytest.mark.parametrize("binding", list(bindings()), ids=lambda one: f"{one.verb} {one.template}")
async def test_a_field_given_twice(edge: Edge, client: httpx.AsyncClient, binding: Binding) -> None:
    sent = list(requests(binding))
    assert {request.field for request in sent} == {
        shown(p) for p in scalars(binding.message, lists=binding.has_body)
    }
    for request in sent:
        response = await client.request(binding.verb, request.url, content=request.body)
        assert violation_of(response) == {
            "field": request.field,
            "description": f"must be given once, {request.where}",
        }, request
    assert edge.gateway.request is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"filter": {"min_year": 1990}, "filter": {"max_year": 1999}}', "filter"),
        ('{"exclude_movie_ids": [1], "excludeMovieIds": [2]}', "exclude_movie_ids"),
        ('{"history": [], "history": null}', "history"),
        ('{"x": {"limit": 1}, "history": [{}, {"rating": 1, "rating": 2}]}', "history[1].rating"),
        ('{"history": {"movieId": 1, "movie_id": 2}}', "history.movie_id"),  # one, which the transcoder takes
    ],
)
async def test_a_key_given_twice(edge: Edge, client: httpx.AsyncClient, text: str, field: str) -> None:
    response = await client.post(PERSONAL, content=text)
    assert violation_of(response) == {
        "field": field,
        "description": "must be given once, not twice in the body",
    }
    assert edge.gateway.request is None


@pytest.mark.parametrize("url", [f"{PERSONAL}?history.movie_id=1", f"{PERSONAL}:batch?requests.user_id=1"])
async def test_a_list_of_messages_needs_a_body(edge: Edge, client: httpx.AsyncClient, url: str) -> None:
    violation = violation_of(await client.post(url))
    assert violation["description"].startswith("must stand in the JSON body of a POST")
    assert edge.gateway.request is None


@pytest.mark.parametrize(
    ("query", "text", "received"),
    [
        ("", "", pb.ListPersonalMoviesRequest()),
        ("?user_id=7&limit=3", "", pb.ListPersonalMoviesRequest(user_id=7, limit=3)),
        ("?limit=3", '{"userId": 7}', pb.ListPersonalMoviesRequest(user_id=7, limit=3)),
        (
            "?exclude_movie_ids=1&excludeMovieIds=2",
            '{"exclude_movie_ids": [3]}',
            pb.ListPersonalMoviesRequest(exclude_movie_ids=[3, 1, 2]),
        ),
        (
            "?filter.minYear=1990&filter.genres=War&filter.genres=Drama",
            '{"filter": {"max_year": 1999}}',
            pb.ListPersonalMoviesRequest(
                filter=pb.MovieFilter(min_year=1990, max_year=1999, genres=["War", "Drama"])
            ),
        ),
        (
            "",
            '{"x": 1, "x": {"y": [1, {"z": "\\"}"}]}, "user_id": 7}',
            pb.ListPersonalMoviesRequest(user_id=7),
        ),
        (
            "",
            ' {"history" : [ {"movie_id":1,"rating":4.5e0}, {"movie_id":1} ] , "limit" : -1 } ',
            pb.ListPersonalMoviesRequest(
                history=[pb.RatedMovie(movie_id=1, rating=4.5), pb.RatedMovie(movie_id=1)], limit=-1
            ),
        ),
        ("", '{"filter": {"genres": ["\\u00e9\\ud83c\\udfac é\\/\\n"]}}', None),
    ],
)
async def test_what_is_given_once_passes(
    edge: Edge,
    client: httpx.AsyncClient,
    query: str,
    text: str,
    received: pb.ListPersonalMoviesRequest | None,
) -> None:
    edge.gateway.answer = pb.ListPersonalMoviesResponse()
    response = await client.post(PERSONAL + query, content=text)
    assert response.status_code == 200, response.text
    genre = "é\N{CLAPPER BOARD} é/\n"
    expected = received or pb.ListPersonalMoviesRequest(filter=pb.MovieFilter(genres=[genre]))
    assert edge.gateway.request == expected


@pytest.mark.parametrize(
    "text",
    [
        '{user_id: 1, "user_id": 2}',
        "{'user_id': 1, \"user_id\": 2}",
        '{"user\\_id": 1, "user_id": 2}',
        *('{"user_id": 1,}', '{"user_id": 1\f}', '{"user_id": 1}{"user_id": 2}'),
        *('{"user_id": 1', '{"user_id'),
        *('{"user_id": "1\\', '{"user_id": "\0"}', '{"user_id" 1}', '{"user_id": 1 "limit": 2}'),
        *('{"history": [{} {}]}', "\ufeff{}", "}"),
    ],
)
async def test_what_is_not_json(edge: Edge, client: httpx.AsyncClient, text: str) -> None:
    response = await client.post(PERSONAL, content=text)
    assert response.status_code == 400
    assert "Invalid request: the body must be JSON: it is not at byte " in response.json()["message"]
    assert edge.gateway.request is None


async def test_a_body_that_is_nested_deeply(edge: Edge, client: httpx.AsyncClient) -> None:
    for text in ('{"x": ' + "[" * 60_000, '{"x":' * 10_000):
        response = await client.post(PERSONAL, content=text)
        assert response.json()["message"] == "Invalid request: the body must not nest deeper than 32 levels"
    assert edge.gateway.request is None


async def test_large_requests_cost_little(edge: Edge, client: httpx.AsyncClient) -> None:
    edge.gateway.answer = pb.ListPersonalMoviesResponse()
    entries: list[dict[str, Any]] = [{"movie_id": i, "rating": 4.5, "x": "\\" * 4} for i in range(1_200)]
    response = await client.post(PERSONAL, json={"history": entries})
    assert response.status_code == 200
    assert response.elapsed.total_seconds() < 1  # about 10 ms: it is the kind of cost that is tested


async def test_the_committed_script_is_what_the_descriptors_give() -> None:
    assert (ROOT / unique_fields.SCRIPT).read_text() == unique_fields.render(ROOT), "run `make envoy`"
