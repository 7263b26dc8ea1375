"""Made-up requests: from the OpenAPI document, by schemathesis, and of bytes that are hardly messages."""

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc import StatusCode

from movierec.gateway.v1 import movie_service_pb2 as pb
from tests.deploy.edge import ROOT
from tests.e2e.leaks import leaks
from tests.e2e.system import System, python_path

pytestmark = pytest.mark.e2e

MESSAGES: Final = int(os.environ.get("MOVIEREC_FUZZ_MESSAGES", "2000"))
"""`make faults` wants 100,000."""
IN_FLIGHT: Final = 32
METHODS: Final = pb.DESCRIPTOR.services_by_name["MovieService"].methods
DOCUMENTED: Final = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.DEADLINE_EXCEEDED,
}
EXAMPLES = os.environ.get("MOVIEREC_FUZZ_EXAMPLES", "3")
"""Per operation; `make fuzz` wants more."""


@pytest.mark.row(57)
def test_the_system_does_what_the_document_says(system: System) -> None:
    schemathesis = Path(sys.executable).with_name("schemathesis")
    arguments = ("--seed", "0", "--max-examples", EXAMPLES)
    done = subprocess.run(
        [
            schemathesis,
            "--config-file=tests/e2e/schemathesis.toml",
            "run",
            f"{system.plan.url}/openapi.json",
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.row(57)
async def test_any_bytes_get_a_documented_answer(
    system: System, record_property: Callable[[str, object], None]
) -> None:
    """MOVIEREC_FUZZ_MESSAGES sets how many."""
    chance = random.Random(0)  # noqa: S311
    made_up = islice(requests(chance), MESSAGES)
    codes: Counter[StatusCode] = Counter()
    found: set[str] = set()

    async def ask_on(channel: Any) -> None:  # whose stubs want serialisers
        for path, content in made_up:
            try:
                await channel.unary_unary(path)(content, timeout=60)
            except grpc.aio.AioRpcError as error:
                codes[error.code()] += 1
                wrong = leaks(text_of(error)) + ([] if error.code() in DOCUMENTED else [error.code().name])
                found.update(f"{path} {content!r}: {what}" for what in wrong)
            else:
                codes[StatusCode.OK] += 1

    async with grpc.aio.insecure_channel(system.servers["gateway"].target) as channel:
        await asyncio.gather(*(ask_on(channel) for _ in range(IN_FLIGHT)))
    record_property("requests", codes.total())
    record_property("failed", sum(codes[code] for code in codes.keys() - DOCUMENTED))
    record_property("codes", ", ".join(f"{code.name} {count:,}" for code, count in codes.most_common()))
    assert codes.total() == MESSAGES
    assert found == set()
    assert {StatusCode.OK, StatusCode.INVALID_ARGUMENT} <= codes.keys()


def text_of(error: grpc.aio.AioRpcError) -> str:
    """All that a client can read of it."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    assert isinstance(details, bytes)
    return f"{error.details()} {json_format.MessageToJson(status_pb2.Status.FromString(details))}"


def requests(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Methods and contents: noise, messages with any values, and the same with bytes changed."""
    while True:
        method = chance.choice(METHODS)
        content = chance.randbytes(chance.randrange(64))
        if chance.random() < 0.8:
            content = filled(GetMessageClass(method.input_type)(), chance).SerializeToString()
        if chance.random() < 0.4:
            content = damaged(content, chance)
        yield f"/{method.containing_service.full_name}/{method.name}", content


def filled(message: Message, chance: random.Random) -> Message:
    """A message with some of its fields set, mostly to what is at a border."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.5:
            continue
        if field.message_type is not None:
            target = getattr(message, field.name)
            for _ in range(chance.randrange(3) if field.is_repeated else 1):
                filled(target.add() if field.is_repeated else target, chance)
        elif field.is_repeated:
            getattr(message, field.name).extend(value_of(field, chance) for _ in range(chance.randrange(3)))
        else:
            setattr(message, field.name, value_of(field, chance))
    return message


def value_of(field: Any, chance: random.Random) -> Any:
    bits = 31 if field.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM} else 63
    numbers = [-1, 0, 1, 2, 7, 100, 101, 2**bits - 1, -(2**bits), chance.randrange(1_000)]
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return chance.choice(["", "Drama", "\0", "\u2028", "ä" * 300, "a b", "%s%n", "../../x"])
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return chance.choice([0.0, 0.5, 1.0, 4.5, -1.0, 1e38, float("nan"), float("inf"), float("-inf")])
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return abs(chance.choice(numbers))
        case _:
            return chance.choice(numbers)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The same with a few bytes changed, taken away or put in."""
    changed = bytearray(content)
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(changed) + 1)
        changed[place : place + chance.randrange(2)] = chance.randbytes(chance.randrange(3))
    return bytes(changed)
