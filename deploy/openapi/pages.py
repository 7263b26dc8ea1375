"""The pages of docs/api as data: every call on them, with the answer that it gets."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

from deploy.openapi.descriptors import Binding

FOLDER: Final = Path("docs/api")
"""Where the pages lie, seen from the root of the repository."""

_CALL: Final = re.compile(
    r"^```sh\n(?P<command>.*?)^```\n+^```json\n(?P<answer>.*?)^```$", re.MULTILINE | re.DOTALL
)

_Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A command on a page, and its answer."""

    arguments: Sequence[str]
    """The command, as a shell would split it."""
    answer: _Json

    @property
    def is_grpc(self) -> bool:
        """Whether it is `buf curl`, not `curl`."""
        return self.arguments[0] == "buf"

    @property
    def url(self) -> str:
        """What it asks."""
        (url,) = (argument for argument in self.arguments if argument.startswith("http"))
        return url

    @property
    def body(self) -> _Json | None:
        """What it sends, if it does."""
        if "-d" not in self.arguments:
            return None
        body: _Json = json.loads(self.arguments[self.arguments.index("-d") + 1])
        return body


@dataclass(frozen=True)
class Example:
    """A call of an operation that succeeds."""

    parameters: Mapping[str, Sequence[str]]
    body: _Json | None
    answer: _Json


def calls(page: str) -> Iterator[Call]:
    """Every call on a page, in order."""
    for block in _CALL.finditer(page):
        command = block["command"].replace("\\\n", " ")  # shlex has no words for lines that go on
        yield Call(shlex.split(command), json.loads(block["answer"]))


def example(page: str, binding: Binding) -> Example | None:
    """The first call of a binding that succeeds."""
    template = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", binding.path)
    for call in calls(page):
        if call.is_grpc or "code" in call.answer or (call.body is not None) != binding.has_body:
            continue
        parts = urlsplit(call.url)
        if path := re.fullmatch(template, parts.path):
            in_path = {name: [value] for name, value in path.groupdict().items()}
            return Example({**parse_qs(parts.query), **in_path}, call.body, call.answer)
    return None
