"""What schemathesis checks beyond its own, and where protobuf reads more than a schema can say."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import schemathesis
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure

from gateway.codec import decode_batch, decode_personal
from movierec.gateway.v1 import movie_service_pb2 as pb
from serving.errors import InvalidArgumentError
from tests.e2e.leaks import leaks
from tests.e2e.rest import Failure as ErrorAnswer

# Rules between fields, and of the catalogue that is served: JSON Schema has no words for them.
RULES_BEYOND_THE_SCHEMA = re.compile(
    r"filter\.min_year: must not be after max_year"
    r"|filter\.(exclude_)?genres\[\d+\]: must be a genre of the catalogue"
    r"|bundle_id: must be empty, or a bundle that is served"
    r"|history\[\d+\]\.movie_id: must not stand in the history twice"
    r"|fallback_policy: must not be DENY"
    r"|requests: must ask for at most 20000 contributions"
)

# By path: what reads a body, and refuses what the table of limits does.
BODIES: Mapping[str, tuple[type[Message], Callable[[Any], object]]] = {
    "/api/movies/personal": (pb.ListPersonalMoviesRequest, decode_personal),
    "/api/movies/personal:batch": (pb.BatchListPersonalMoviesRequest, decode_batch),
}

schemathesis.openapi.format("int64", st.integers(1, 2**63 - 1).map(str))


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case[Any], _response: Response) -> bool:
    """Forgive that the number of an enum is read beside its name, as protobuf's JSON has it."""
    by_number = any(str((case.query or {}).get(name, "")).isdigit() for name in ("fallback_policy", "order"))
    return not (isinstance(failure, AcceptedNegativeData) and by_number)


@schemathesis.check
def valid_data_acceptance(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """What the document allows is answered, unless it breaks a rule that no schema can say."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    failure = _failure(response)
    assert failure.info.domain == "movierec", failure.status.message
    broken = failure.detail(error_details_pb2.BadRequest).field_violations
    rules = [f"{violation.field}: {violation.description}" for violation in broken]
    assert all(map(RULES_BEYOND_THE_SCHEMA.search, rules)), failure.status.message


@schemathesis.check
def invalid_body_rejection(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A body is accepted only if the table of limits lets it pass."""
    if case.method != "POST" or response.status_code != 200:
        return
    sent = response.request.body
    assert isinstance(sent, bytes | str | None)
    kind, check = BODIES[case.path]
    message = kind()
    try:
        if sent:
            json_format.ParseDict(json.loads(sent), message, ignore_unknown_fields=True)
    except json_format.ParseError:  # Envoy takes one value for a list of it, and null for no entry
        return
    try:
        check(message)
    except InvalidArgumentError as error:
        raise AssertionError(f"accepted, although: {error}") from error


@schemathesis.check
def nothing_of_the_inside(_: CheckContext, response: Response, _case: Case[Any]) -> None:
    """No error tells how the servers are built."""
    found = leaks(response.text) if response.status_code >= 400 else []
    assert not found, found


@schemathesis.check
def one_reason(_: CheckContext, response: Response, _case: Case[Any]) -> None:
    """An error says why, in the same shape whoever answers it."""
    if response.status_code >= 400:
        failure = _failure(response)
        assert failure.status.details, response.text
        assert failure.info.domain in {"movierec", "envoy"}
        assert failure.info.reason


def _failure(response: Response) -> ErrorAnswer:
    return ErrorAnswer(response.status_code, json_format.ParseDict(response.json(), status_pb2.Status()))
