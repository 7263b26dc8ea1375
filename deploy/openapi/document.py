"""From descriptors, limits and examples to the document."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, MethodDescriptorProto
from google.rpc import code_pb2

from deploy.openapi.descriptors import (
    Binding,
    Descriptors,
    bindings,
    is_message,
    is_repeated,
    is_required,
)
from deploy.openapi.pages import Example
from serving.limits import LIMITS, UNLESS, Limits, Measure

OPENAPI: Final = Path("deploy/envoy/openapi.json")
"""Where it lies for Envoy, which serves it at /openapi.json."""
SERVICE: Final = ".movierec.gateway.v1.MovieService"
"""What the document is about."""

_PACKAGE: Final = SERVICE.rpartition(".")[0]
_REASONS: Final = f"{_PACKAGE}.ErrorReason"
_STATUS: Final = ".google.rpc.Status"
_DETAILS: Final = tuple(
    f".google.rpc.{name}" for name in ("BadRequest", "ErrorInfo", "ResourceInfo", "RetryInfo")
)

Json: TypeAlias = dict[str, Any]
"""An object of the document."""

_SCALARS: Final[Mapping[int, Mapping[str, str]]] = MappingProxyType(
    {
        FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
        FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
        FieldDescriptorProto.TYPE_FLOAT: {"type": "number", "format": "float"},
        FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
        # A JSON number is accepted too, but JavaScript's would lose digits.
        FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64"},
        FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    }
)
_WELL_KNOWN: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        ".google.protobuf.Any": {"type": "object"},
        ".google.protobuf.Duration": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})?s$"},
        ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    }
)
_POSITIVE_INT64: Final = "^[1-9][0-9]{0,18}$"


_DISABLED: Final = "METHOD_DISABLED"
"""What the comment of a method says that an installation may turn off."""
_DISABLED_STATUS: Final = 501


@dataclass(frozen=True)
class _Failure:
    """A reason to fail."""

    http_status: int
    code: int
    """Of gRPC."""
    description: str
    info: Json
    """An example of its ErrorInfo."""

    @property
    def example(self) -> Json:
        """An example of the answer."""
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", **self.info}
        return {"code": self.code, "message": self.description.partition(".")[0] + ".", "details": [info]}


_BODY_TOO_LARGE: Final = _Failure(
    http_status=413,
    code=code_pb2.RESOURCE_EXHAUSTED,
    description="The request body is larger than 64 KiB.",
    info={"reason": "BODY_TOO_LARGE", "domain": "envoy"},
)
_HEADERS_TOO_LARGE: Final = _Failure(
    http_status=431,
    code=code_pb2.RESOURCE_EXHAUSTED,
    description="The request headers are too large. The URL is one of them: long lists fit into a body.",
    info={"reason": "HEADERS_TOO_LARGE", "domain": "envoy"},
)


def document(descriptors: Descriptors, examples: Mapping[str, Example]) -> Json:
    """The document. Examples go by operation id; an operation that has none goes without."""
    schemas = _Schemas(descriptors)
    failures = [*_failures(descriptors), _BODY_TOO_LARGE, _HEADERS_TOO_LARGE]
    statuses = sorted({failure.http_status for failure in failures})
    paths: defaultdict[str, Json] = defaultdict(dict)
    for method in descriptors.services[SERVICE]:
        for binding in bindings(method):
            id_ = operation_id(method, binding)
            example = examples.get(id_)
            request = descriptors.messages[method.input_type]
            comment = descriptors.comments[f"{SERVICE}.{method.name}"]
            errors = {
                str(status): {"$ref": f"#/components/responses/{status}"}
                for status in statuses
                if _may_fail_with(status, request, binding, comment)
            }
            paths[binding.path][binding.verb] = {
                "operationId": id_,
                **_summary(comment),
                **_request(schemas, method, binding, example),
                "responses": {"200": _answer(schemas, method, example), **errors},
            }
    responses = {
        str(status): _failed(schemas, [f for f in failures if f.http_status == status]) for status in statuses
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "movierec",
            "summary": descriptors.comments[SERVICE],
            "version": _PACKAGE.rpartition(".")[2],
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas.components, "responses": responses},
    }


def operation_id(method: MethodDescriptorProto, binding: Binding) -> str:
    """How the document calls a binding: as its method, but for the further ones."""
    is_first = binding == bindings(method)[0]
    return str(method.name) if is_first else f"{method.name}By{binding.verb.capitalize()}"


# Operations


def _summary(comment: str) -> Json:
    first, _, more = comment.partition(". ")
    return _given({"summary": first.rstrip("."), "description": more or None})


def _request(
    schemas: "_Schemas", method: MethodDescriptorProto, binding: Binding, example: Example | None
) -> Json:
    if binding.has_body:
        content = {"schema": schemas.reference(method.input_type), "example": example and example.body}
        return {"requestBody": {"required": True, "content": {"application/json": _given(content)}}}
    parameters = list(schemas.parameters(method.input_type, binding.path))
    for parameter in parameters:
        values = example.parameters.get(parameter["name"]) if example else None
        if values:
            parameter["example"] = _typed(parameter["schema"], values)
    return {"parameters": parameters}


def _typed(schema: Json, values: Sequence[str]) -> Any:
    """What a parameter's text means."""
    if schema["type"] == "array":
        return [_typed(schema["items"], [value]) for value in values]
    (value,) = values
    return value if schema["type"] == "string" else json.loads(value)


def _answer(schemas: "_Schemas", method: MethodDescriptorProto, example: Example | None) -> Json:
    content = {"schema": schemas.reference(method.output_type), "example": example and example.answer}
    return {"description": "The answer.", "content": {"application/json": _given(content)}}


def _may_fail_with(status: int, request: DescriptorProto, binding: Binding, comment: str) -> bool:
    if status == _BODY_TOO_LARGE.http_status:
        return binding.has_body
    if status == _HEADERS_TOO_LARGE.http_status:
        return not binding.has_body
    if status == _DISABLED_STATUS:
        return _DISABLED in comment
    names = {field.name for field in request.field}
    return status != 404 or "{" in binding.path or "fallback_policy" in names  # noqa: PLR2004  # all know it


# Errors


def _failures(descriptors: Descriptors) -> Iterator[_Failure]:
    """What clients may be answered, as the comments of the enum of reasons have it."""
    for value in descriptors.enums[_REASONS].value:
        comment = descriptors.comments[f"{_REASONS}.{value.name}"]
        if status := re.search(r"With ([A-Z_]+), HTTP (\d+)", comment):
            description, _, example = comment.partition("\n\nExample of an ErrorInfo:\n\n")
            yield _Failure(int(status[2]), code_pb2.Code.Value(status[1]), description, json.loads(example))


def _failed(schemas: "_Schemas", failures: Sequence[_Failure]) -> Json:
    return {
        "description": "\n".join(f"- `{f.info['reason']}`: {f.description}" for f in failures),
        "content": {
            "application/json": {
                "schema": schemas.status(),
                "examples": {f.info["reason"]: {"value": f.example} for f in failures},
            }
        },
    }


# Schemas


class _Schemas:
    """Schemas of messages and enums, made when they are first referred to."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._all = descriptors
        self._made: dict[str, Json] = {}
        methods = descriptors.services[SERVICE]
        self._answers = descriptors.held_by(method.output_type for method in methods)
        self._prefixes = _prefixes(descriptors, {method.input_type for method in methods})

    @property
    def components(self) -> Json:
        """All that are referred to, by name."""
        return dict(sorted(self._made.items()))

    def reference(self, name: str) -> Json:
        """A reference to the schema of a message or an enum."""
        short = _short(name)
        if short not in self._made:
            self._made[short] = {}  # a message may hold itself
            self._made[short] = self._enum(name) if name in self._all.enums else self._message(name)
        return {"$ref": f"#/components/schemas/{short}"}

    def status(self) -> Json:
        """A reference to the schema of errors."""
        details = []
        for name in _DETAILS:
            details.append(self.reference(name))
            schema = self._made[_short(name)]
            type_ = {"const": f"type.googleapis.com/{name[1:]}"}
            schema |= {"properties": {"@type": type_} | schema["properties"], "required": ["@type"]}
        reference = self.reference(_STATUS)
        status = self._made[_short(_STATUS)]
        status["properties"]["details"]["items"] = {"oneOf": details}
        status["required"] = ["code", "message", "details"]
        return reference

    def parameters(self, message: str, path: str, prefix: str = "") -> Iterator[Json]:
        """The parameters that a request without a body may have."""
        for field in self._all.messages[message].field:
            name = prefix + field.name
            if is_message(field) and field.type_name not in _WELL_KNOWN:
                if not is_repeated(field):  # a query string cannot hold a list of messages
                    yield from self.parameters(field.type_name, path, f"{name}.")
                continue
            in_path = f"{{{name}}}" in path
            schema = self._field(message, field)
            yield {
                "name": name,
                "in": "path" if in_path else "query",
                "required": in_path or is_required(field) or field.name in UNLESS,
                "description": schema.pop("description"),
                "schema": schema,
            }

    def _message(self, name: str) -> Json:
        message = self._all.messages[name]
        required = [field.name for field in message.field if self._is_always_there(name, field)]
        known = {field.name for field in message.field}
        needs = [
            {"anyOf": [{"required": [one]}, {"required": [other], "properties": {other: {"minItems": 1}}}]}
            for one, other in UNLESS.items()
            if {one, other} <= known
        ]
        schema = {
            "type": "object",
            "description": self._comment(name),
            "properties": {field.name: self._field(name, field) for field in message.field},
            "required": required or None,
            "allOf": needs or None,
            # Servers ignore what they do not know; but to send it is a mistake.
            "additionalProperties": False if name in self._prefixes else None,
        }
        return _given(schema)

    def _enum(self, name: str) -> Json:
        values = self._all.enums[name].value
        meanings = [f"- `{value.name}`: {self._comment(f'{name}.{value.name}')}" for value in values]
        return {
            "type": "string",
            "description": "\n".join([self._comment(name), "", *meanings]),
            "enum": [value.name for value in values],
        }

    def _field(self, message: str, field: FieldDescriptorProto) -> Json:
        path = self._prefixes.get(message, "?") + field.name
        schema = self._type(field)
        if is_repeated(field) and "additionalProperties" not in schema:
            items = {**schema, **_keywords(LIMITS.get(f"{path}[]"), schema)}
            schema = {"type": "array", "items": items}
        comment = self._comment(f"{message}.{field.name}")
        return {"description": comment, **schema, **_keywords(LIMITS.get(path), schema)}

    def _type(self, field: FieldDescriptorProto) -> Json:
        if field.type in _SCALARS:
            return dict(_SCALARS[field.type])
        if field.type_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[field.type_name])
        if is_message(field) and (entry := self._all.messages[field.type_name]).options.map_entry:
            return {"type": "object", "additionalProperties": self._type(entry.field[1])}
        if not field.type_name:
            raise ValueError(f"{field.name}: its type is not in _SCALARS, so the document cannot name it")
        return self.reference(field.type_name)

    def _is_always_there(self, message: str, field: FieldDescriptorProto) -> bool:
        if message in self._prefixes:
            return is_required(field)
        # Envoy prints zeros, false and empty lists, but no messages and optionals that are unset.
        may_be_unset = field.proto3_optional or (is_message(field) and not is_repeated(field))
        return message in self._answers and not may_be_unset

    def _comment(self, name: str) -> str:
        comment = self._all.comments[name]
        if same := re.match(r"As in (\w+)\.$", comment):
            return self._comment(f"{_PACKAGE}.{same[1]}.{name.rpartition('.')[2]}")
        return comment.partition("\n\n")[0] if name.startswith(".google.") else comment


def _prefixes(descriptors: Descriptors, requests: set[str]) -> Mapping[str, str]:
    """What stands before the fields of each message of a request in the paths of the limits."""
    prefixes = dict.fromkeys(requests, "")
    waiting = sorted(requests)
    while waiting:
        name = waiting.pop()
        for field in descriptors.messages[name].field:
            if is_message(field) and field.type_name not in prefixes:
                dots = "[]." if is_repeated(field) else "."
                prefixes[field.type_name] = prefixes[name] + field.name + dots
                waiting.append(field.type_name)
    return prefixes


def _keywords(limits: Limits | None, schema: Json) -> Json:
    """Limits as keywords of JSON Schema."""
    if limits is None:
        return {}
    low, high = (int(n) if float(n).is_integer() else n for n in (limits.low, limits.high))
    match limits.measure:
        case Measure.VALUE if schema.get("format") == "int64":
            return {"pattern": _POSITIVE_INT64}
        case Measure.VALUE:
            return {"minimum": low, "maximum": high}
        case Measure.ENTRIES:
            return _given({"minItems": low or None, "maxItems": high, "uniqueItems": limits.unique or None})
        case Measure.CHARACTERS:
            longest = high if math.isfinite(high) else None  # then the pattern says it
            return _given({"minLength": low, "maxLength": longest, "pattern": limits.pattern})
        case Measure.SECONDS | Measure.FINITE:
            return {}  # every date-time is within, every JSON number is finite


def _given(json_object: Json) -> Json:
    """What is not None."""
    return {name: value for name, value in json_object.items() if value is not None}


def _short(name: str) -> str:
    """A full name without its package."""
    return re.sub(r"^[.a-z0-9_]+\.(?=[A-Z])", "", name)
