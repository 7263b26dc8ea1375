"""The protos as data: types, methods and comments, by name."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

# The elements of a file that have names, by the field that holds them.
_HOLDERS: Final = frozenset(
    {"service", "method", "message_type", "nested_type", "field", "enum_type", "value"}
)


@dataclass(frozen=True)
class Binding:
    """A path of the REST API."""

    verb: str
    """In lower case, as OpenAPI has it."""
    path: str
    has_body: bool
    """Whether the request travels as body; else as query."""


@dataclass(frozen=True)
class Descriptors:
    """What the protos say. Full names begin with a dot, as where descriptors refer to types."""

    messages: Mapping[str, DescriptorProto]
    enums: Mapping[str, EnumDescriptorProto]
    comments: Mapping[str, str]
    """Of every element, fields, values and methods included; empty for those without."""
    services: Mapping[str, Sequence[MethodDescriptorProto]]

    @classmethod
    def of_this_repository(cls) -> "Descriptors":
        """Let buf compile the protos; the working directory is the root of the repository."""
        buf = Path(sys.executable).with_name("buf")
        command = (buf, "build", "--as-file-descriptor-set", "-o", "-")
        built = subprocess.run(command, capture_output=True, check=True)
        return cls.of(FileDescriptorSet.FromString(built.stdout))

    @classmethod
    def of(cls, files: FileDescriptorSet) -> "Descriptors":
        """Index a set of files that holds its source info."""
        messages, enums, comments, services = {}, {}, {}, {}
        for file in files.file:
            written = {tuple(one.path): one.leading_comments for one in file.source_code_info.location}
            for name, path, element in _elements(file, f".{file.package}"):
                comments[name] = _unwrapped(written.get(path, ""))
                match element:
                    case DescriptorProto():
                        messages[name] = element
                    case EnumDescriptorProto():
                        enums[name] = element
                    case _ if hasattr(element, "method"):
                        services[name] = tuple(element.method)
        return cls(messages, enums, comments, services)

    def held_by(self, roots: Iterable[str]) -> set[str]:
        """The names of the roots and of all messages that their fields hold, at any depth."""
        names: set[str] = set()
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            if name not in names:
                names.add(name)
                waiting += [field.type_name for field in self.messages[name].field if is_message(field)]
        return names


def bindings(method: MethodDescriptorProto) -> list[Binding]:
    """The paths of a method, the first one its own."""
    http = method.options.Extensions[annotations_pb2.http]
    rules = [http, *http.additional_bindings]
    verbs = [str(rule.WhichOneof("pattern")) for rule in rules]
    return [Binding(v, getattr(r, v), bool(r.body)) for v, r in zip(verbs, rules, strict=True)]


def is_message(field: FieldDescriptorProto) -> bool:
    """Whether a field holds messages."""
    return field.type == FieldDescriptorProto.TYPE_MESSAGE


def is_repeated(field: FieldDescriptorProto) -> bool:
    """Whether a field is a list."""
    return field.label == FieldDescriptorProto.LABEL_REPEATED


def is_required(field: FieldDescriptorProto) -> bool:
    """Whether a request must have a field."""
    return field_behavior_pb2.REQUIRED in field.options.Extensions[field_behavior_pb2.field_behavior]


def _elements(
    holder: Any, scope: str, path: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Each element below `holder`: full name, path in the source info, descriptor."""
    for field in holder.DESCRIPTOR.fields:
        if field.name in _HOLDERS:
            for place, element in enumerate(getattr(holder, field.name)):
                name, below = f"{scope}.{element.name}", (*path, field.number, place)
                yield name, below, element
                yield from _elements(element, name, below)


def _unwrapped(comment: str) -> str:
    """Each paragraph on one line; what is indented stays as it is."""
    lines = "\n".join(line.removeprefix(" ").rstrip() for line in comment.splitlines())
    return re.sub(r"(?<=\S)\n(?=[^\s])", " ", lines).strip()
