"""The public enum of reasons, against those that the servers know."""

from contextlib import chdir

import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2

from deploy.openapi.descriptors import Descriptors
from movierec.gateway.v1.error_reason_pb2 import ErrorReason
from serving.errors import Reason
from serving.rpc.status import DOMAIN
from tests.deploy.edge import ROOT

PREFIX = "ERROR_REASON_"


def test_every_reason_has_a_value() -> None:
    assert [name.removeprefix(PREFIX) for name in ErrorReason.keys()] == ["UNSPECIFIED", *Reason]  # noqa: SIM118


@pytest.fixture(scope="module")
def comments() -> dict[str, str]:
    with chdir(ROOT):
        return dict(Descriptors.of_this_repository().comments)


@pytest.mark.parametrize("reason", Reason)
def test_every_value_has_an_example(comments: dict[str, str], reason: Reason) -> None:
    comment = comments[f".movierec.gateway.v1.ErrorReason.{PREFIX}{reason}"]
    _, _, example = comment.partition("Example of an ErrorInfo:\n")
    info = json_format.Parse(example, error_details_pb2.ErrorInfo())
    assert (info.reason, info.domain) == (reason, DOMAIN)
