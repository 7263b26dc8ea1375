"""The OpenAPI document: valid, complete, and as strict as the gateway."""

import json
from contextlib import chdir
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from deploy.openapi.descriptors import Descriptors, bindings
from deploy.openapi.document import OPENAPI, SERVICE, document
from deploy.openapi.pages import Example, calls, example
from movierec.gateway.v1 import movie_service_pb2 as pb
from serving.limits import LIMITS
from tests.deploy.edge import ROOT


@pytest.fixture(scope="module")
def descriptors() -> Descriptors:
    with chdir(ROOT):
        return Descriptors.of_this_repository()


@pytest.fixture(scope="module")
def made(descriptors: Descriptors) -> Any:
    """The document without examples, as JSON has it."""
    return json.loads(json.dumps(document(descriptors, {})))


@pytest.fixture(scope="module")
def committed() -> Any:
    return json.loads((ROOT / OPENAPI).read_text())


def parameters(operation: Any) -> dict[str, Any]:
    return {one["name"]: one for one in operation["parameters"]}


def test_the_committed_document_is_valid(committed: Any) -> None:
    validate(committed, cls=OpenAPIV31SpecValidator)


def test_every_method_is_there(committed: Any) -> None:
    operations = {one["operationId"] for path in committed["paths"].values() for one in path.values()}
    assert {method.name for method in pb.DESCRIPTOR.services_by_name["MovieService"].methods} <= operations
    assert "ListPersonalMoviesByPost" in operations


def test_whatever_has_a_name_has_a_description(committed: Any) -> None:
    for name, schema in committed["components"]["schemas"].items():
        assert schema["description"], name
        for field, described in schema.get("properties", {}).items():
            assert field == "@type" or described["description"], (name, field)
    for path in committed["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert all(one["description"] for one in operation.get("parameters", ()))


def test_every_limit_of_the_table_is_there(made: Any) -> None:
    """The document names each path of the table at least once, with a bound."""
    bounded: set[str] = set()

    def look(schema: Any, path: str) -> None:
        if "$ref" in schema:
            schema = {**made["components"]["schemas"][schema["$ref"].rpartition("/")[2]], **schema}
        is_date_time = schema.get("format") == "date-time"  # which says what a Timestamp may be
        if is_date_time or schema.keys() & {"minimum", "maximum", "maxItems", "maxLength", "pattern"}:
            bounded.add(path)
        for name, field in schema.get("properties", {}).items():
            look(field, f"{path}.{name}".removeprefix("."))
        if "items" in schema:
            look(schema["items"], f"{path}[]")

    for operations in made["paths"].values():
        for operation in operations.values():
            for name, parameter in parameters(operation).items() if "parameters" in operation else ():
                look(parameter["schema"], name)
            if "requestBody" in operation:
                look(operation["requestBody"]["content"]["application/json"]["schema"], "")
    assert set(LIMITS) <= bounded


def test_types_and_limits_of_parameters(made: Any) -> None:
    query = parameters(made["paths"]["/api/movies/personal"]["get"])
    assert "history" not in query  # a query string cannot hold it
    assert query["user_id"]["required"]
    digits = "^[1-9][0-9]{0,18}$"
    assert query["user_id"]["schema"] == {"type": "string", "format": "int64", "pattern": digits}
    assert query["diversity"]["schema"] == {"type": "number", "format": "float", "minimum": 0, "maximum": 1}
    genres = query["filter.genres"]["schema"]
    assert (genres["maxItems"], genres["uniqueItems"], genres["items"]["maxLength"]) == (20, True, 40)
    assert query["limit"]["description"].startswith("Movies to return.")  # not "As in …"
    path = parameters(made["paths"]["/api/movies/{movie_id}"]["get"])["movie_id"]
    assert (path["in"], path["required"], path["schema"]["minimum"]) == ("path", True, 1)


def test_a_user_id_is_needed_unless_there_is_a_history(made: Any) -> None:
    schema = made["components"]["schemas"]["ListPersonalMoviesRequest"]
    assert "required" not in schema
    (need,) = schema["allOf"]
    assert need["anyOf"] == [
        {"required": ["user_id"]},
        {"required": ["history"], "properties": {"history": {"minItems": 1}}},
    ]


def test_answers_promise_what_is_always_printed(made: Any) -> None:
    schemas = made["components"]["schemas"]
    assert schemas["Movie"]["required"] == ["movie_id", "title", "genres", "rating_count"]
    assert schemas["RatedMovie"]["required"] == ["movie_id"]
    assert schemas["FallbackPolicy"]["enum"][1:] == ["FALLBACK_POLICY_ALLOW", "FALLBACK_POLICY_DENY"]


def test_errors_come_from_the_enum_of_reasons(made: Any) -> None:
    responses = made["components"]["responses"]
    assert list(responses) == ["400", "404", "413", "429", "431", "500", "501", "503", "504"]
    (info,) = responses["504"]["content"]["application/json"]["examples"]["DEADLINE_TOO_SHORT"]["value"][
        "details"
    ]
    assert info["metadata"] == {"remaining_ms": "7"}
    popular = made["paths"]["/api/movies/popular"]["get"]["responses"]
    assert list(popular) == ["200", "400", "429", "431", "500", "503", "504"]
    assert "413" in made["paths"]["/api/movies/personal"]["post"]["responses"]
    assert "501" in made["paths"]["/api/movies/{movie_id}/why"]["get"]["responses"]  # may be turned off


def test_a_new_rpc_appears_by_itself(descriptors: Descriptors) -> None:
    """As a method named Count would, with a field that the table knows and one that it does not."""
    added = FileDescriptorSet()
    pb.DESCRIPTOR.CopyToProto(added.file.add())
    (file,) = added.file
    message = file.message_type.add(name="CountRequest")
    message.field.add(name="offset", number=1, type="TYPE_INT32", label="LABEL_OPTIONAL")
    message.field.add(name="loud", number=2, type="TYPE_BOOL", label="LABEL_OPTIONAL")
    method = file.service[0].method.add(
        name="Count", input_type=".movierec.gateway.v1.CountRequest", output_type=".movierec.gateway.v1.Movie"
    )
    method.options.MergeFrom(file.service[0].method[0].options)
    new = Descriptors.of(added)
    grown = Descriptors(
        messages={**descriptors.messages, **new.messages},
        enums=descriptors.enums,
        comments={**new.comments, **descriptors.comments},
        services=new.services,
    )
    made = document(grown, {})
    operation = made["paths"]["/api/movies/popular"]["get"]
    assert operation["operationId"] == "Count"
    assert parameters(operation)["offset"]["schema"]["maximum"] == LIMITS["offset"].high
    assert parameters(operation)["loud"]["schema"] == {"type": "boolean"}


PAGE = """
```sh
curl 'http://127.0.0.1:8080/api/movies/999999/similar'
```

```json
{"code": 5}
```

Two words on it.

```sh
curl 'http://127.0.0.1:8080/api/movies/7/similar?limit=2&filter.genres=War&filter.genres=Film-Noir'
```

```json
{"movies": []}
```
"""


def test_examples_come_from_the_pages(descriptors: Descriptors) -> None:
    assert [call.answer for call in calls(PAGE)] == [{"code": 5}, {"movies": []}]
    (method,) = (one for one in descriptors.services[SERVICE] if one.name == "ListSimilarMovies")
    found = example(PAGE, bindings(method)[0])
    assert found == Example(
        parameters={"movie_id": ["7"], "limit": ["2"], "filter.genres": ["War", "Film-Noir"]},
        body=None,
        answer={"movies": []},
    )
    operation = document(descriptors, {"ListSimilarMovies": found})["paths"][
        "/api/movies/{movie_id}/similar"
    ]["get"]
    assert parameters(operation)["movie_id"]["example"] == 7
    assert parameters(operation)["filter.genres"]["example"] == ["War", "Film-Noir"]
    assert operation["responses"]["200"]["content"]["application/json"]["example"] == {"movies": []}
