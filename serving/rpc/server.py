"""The life of a server: not ready, ready, draining, gone."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, Final, NoReturn

import structlog
import uvloop
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.limiter import CallCost, Limiter
from serving.rpc.interceptors import ANSWER_CODES, CallInterceptor
from serving.rpc.metrics import ServerMetrics
from serving.rpc.tls import server_credentials
from serving.rpc.tracing import OFF, Tracing
from serving.settings import ServerSettings, StartError

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
EVERY_CALL_ALIKE: Final[Mapping[str, CallCost]] = MappingProxyType({})

LIVENESS: Final = "liveness"
"""Name to ask the health service for whether the process lives, with a bundle or without."""

_LIVENESS_SECONDS: Final = 1.0

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


@asynccontextmanager
async def running(
    settings: ServerSettings,
    *,
    register: Callable[[aio.Server], None],
    service_names: Sequence[str],
    metrics: ServerMetrics,
    ready: Callable[[], Awaitable[None]],
    alive: Callable[[], bool] = lambda: True,
    call_costs: Mapping[str, CallCost] = EVERY_CALL_ALIKE,
    tracing: Tracing = OFF,
    stop_at_once: asyncio.Event | None = None,
) -> AsyncIterator[int]:
    """Serves while the block runs; yields the bound port. Leaving it drains: models must outlive it.

    Args:
        settings: address, limits, times.
        register: adds the servicers to the server.
        service_names: full names of the services, for health and reflection. Health also knows `LIVENESS`.
        metrics: what calls are counted on.
        ready: returns once the services can answer; until then their health is NOT_SERVING.
        alive: asked every second; while it says no, the health of `LIVENESS` is NOT_SERVING.
        call_costs: what calls of a method ask of the limiter, by the method's name, where it is not one user.
        tracing: what traces calls.
        stop_at_once: when set, draining ends, and calls in flight with it.

    Raises:
        StartError: the port is taken, the address is not one of this machine, or TLS files are unusable.
        ValueError: `call_costs` names a method that no service has.
    """
    find: Callable[[str], ServiceDescriptor] = descriptor_pool.Default().FindServiceByName
    methods = [method.name for name in service_names for method in find(name).methods]
    if unknown := call_costs.keys() - set(methods):  # what was meant would count as one user
        raise ValueError(f"call_costs of methods that no service here has: {', '.join(sorted(unknown))}")
    metrics.expect(methods, ANSWER_CODES)
    health_servicer = health.aio.HealthServicer()
    names = ("", *service_names)
    for name in names:  # the library starts at SERVING
        await health_servicer.set(name, _NOT_SERVING)
    await health_servicer.set(LIVENESS, _SERVING)
    limiter = Limiter(settings.max_inflight)
    interceptor = CallInterceptor(metrics, limiter=limiter, call_costs=call_costs, tracing=tracing)
    server = aio.server(interceptors=[*tracing.server_interceptors, interceptor], options=_options(settings))
    # Each method gets a handler of its own, and with it a queue in grpc's core: no look-up waits behind lists
    # until the server accepts it.
    register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.reflection:
        shown = (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(shown, server)
    port = _bind(server, settings)
    await server.start()
    _logger.info("listening", host=settings.host, port=port)

    async def serve_when_ready() -> None:
        await ready()
        for name in names:
            await health_servicer.set(name, _SERVING)
        _logger.info("serving")

    async def tell_liveness() -> None:
        while True:
            await health_servicer.set(LIVENESS, _SERVING if alive() else _NOT_SERVING)
            await asyncio.sleep(_LIVENESS_SECONDS)

    liveness = asyncio.create_task(tell_liveness())
    readiness = asyncio.create_task(serve_when_ready())
    try:
        yield port
    finally:
        was_ready = readiness.done() and not readiness.cancelled() and readiness.exception() is None
        readiness.cancel()
        try:
            for name in names:
                await health_servicer.set(name, _NOT_SERVING)
            await _drain(server, settings, was_ready=was_ready, at_once=stop_at_once or asyncio.Event())
        finally:
            liveness.cancel()
        _logger.info("stopped")
        with suppress(asyncio.CancelledError):
            await readiness  # raises what it failed with


async def serve_until_stopped(server: Callable[[asyncio.Event], AbstractAsyncContextManager[int]]) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends that at once.

    Args:
        server: `running`, given its `stop_at_once`.
    """
    requested, at_once = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (at_once if requested.is_set() else requested).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    async with server(at_once):
        await requested.wait()
        _logger.info("stopping")


def run(main: Coroutine[Any, Any, None]) -> NoReturn:
    """Runs a process to its end: exit 0 after a stop signal, 2 when its settings do not let it start."""
    code = 0
    try:
        uvloop.run(main)
    except StartError as error:
        print(error, file=sys.stderr)  # noqa: T201  # for whoever started it, not for the log
        code = 2
    sys.stdout.flush()
    sys.stderr.flush()
    # A bundle may still be loading in a thread. Nobody wants to wait for it, and Python's own exit would end
    # the thread in the middle of native code, which can crash.
    os._exit(code)


async def _drain(
    server: aio.Server, settings: ServerSettings, *, was_ready: bool, at_once: asyncio.Event
) -> None:
    at_once_requested = asyncio.create_task(at_once.wait())
    try:
        if was_ready:  # else no caller was ever sent here
            await asyncio.wait({at_once_requested}, timeout=settings.drain_delay_seconds)
        stop = asyncio.create_task(server.stop(settings.drain_seconds))
        await asyncio.wait({at_once_requested, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            await server.stop(None)
        await stop
    finally:
        at_once_requested.cancel()


# Envoy passes on the URL of a REST call, and takes headers of up to 60 KiB. By default, calls with more
# than 8 KiB would be refused as RESOURCE_EXHAUSTED: some of them, by chance, and all beyond 16 KiB.
_MAX_METADATA_BYTES: Final = 128 * 1024


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.so_reuseport", 0),  # else a second server on the port would silently take half of the calls
        # A third of what our channels wait between pings. By default, pings on an idle connection that come
        # oftener than every five minutes are too many, and the core closes it.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _bind(server: aio.Server, settings: ServerSettings) -> int:
    """Binds the port that the settings name; tries it with a plain socket, whose errors can be read."""
    where = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{where}:{settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, _, _, place = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen()
    except OSError as error:
        raise StartError(
            f"{settings.variable('port')}: cannot listen on {address}: {error.strerror}"
        ) from error
    credentials = server_credentials(settings)
    try:
        if credentials is not None:
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError as error:  # another process has taken the port since it was tried
        raise StartError(f"{settings.variable('port')}: cannot listen on {address}") from error
