"""A stage with a given model behind a real channel, and what its tests ask of failures."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from serving.bundle.holder import BundleHolder
from serving.bundle.store import BundleError, BundleStore, Pointer
from serving.rpc.channels import open_channel
from serving.rpc.metrics import ServerMetrics
from serving.rpc.server import running
from serving.rpc.status import error_info
from tests.serving.server_under_test import settings

Model = TypeVar("Model")
Detail = TypeVar("Detail", bound=Message)


@asynccontextmanager
async def stage(
    root: Path,
    model: Model | None,
    register: Callable[[BundleHolder[Model], aio.Server, ServerMetrics], None],
    service_name: str,
) -> AsyncIterator[tuple[aio.Channel, ServerMetrics]]:
    """A running stage that holds `model`, or nothing when it is None.

    Args:
        root: an empty directory.
        model: what loading a bundle gives.
        register: adds the servicer, which answers from the holder, to the server.
        service_name: for health.
    """
    pointer = Pointer(bundle_id=getattr(model, "bundle_id", "b"), published_at=0)
    root.joinpath("current").write_text(pointer.model_dump_json())

    def load(_store: BundleStore, _bundle_id: str) -> Model:
        if model is None:
            raise BundleError("bundle b is damaged")
        return model

    metrics = ServerMetrics.create("test")
    holder = BundleHolder(
        BundleStore(root), load, load_counter=metrics.bundle_loads, info=metrics.bundle_info, poll_seconds=60
    )
    async with (
        holder.loading(),
        running(
            settings(bundle_root=root),
            register=lambda server: register(holder, server, metrics),
            service_names=[service_name],
            metrics=metrics,
            ready=holder.loaded,
        ) as port,
        open_channel(f"127.0.0.1:{port}") as channel,
    ):
        if model is not None:
            await holder.loaded()
        yield channel, metrics


async def failure(call: Any) -> aio.AioRpcError:
    """The error that a call ends with."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


def info_of(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Its reason, whose that is, and what goes with it."""
    info = error_info(error)
    assert info is not None
    return info


def reason_of(error: aio.AioRpcError) -> str:
    """Its reason."""
    return info_of(error).reason


def detail_of(error: aio.AioRpcError, kind: type[Detail]) -> Detail:
    """The one detail of this kind: the last of two, behind the reason."""
    call: Any = error  # the library types calls that block
    status = rpc_status.from_call(call)
    detail = kind()
    assert status is not None
    assert [one.Unpack(detail) for one in status.details] == [False, True]
    return detail


def violations_of(error: aio.AioRpcError) -> list[str]:
    """The fields that it finds fault with."""
    bad_request = detail_of(error, error_details_pb2.BadRequest)
    return [violation.field for violation in bad_request.field_violations]
