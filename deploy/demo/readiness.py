"""Waits until every server serves the published bundle, or says which one does not."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, TypeAlias

import grpc
import httpx
from grpc_health.v1 import health_pb2
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.plan import Plan
from deploy.demo.processes import Process, Supervisor
from deploy.demo.signals import StopRequest
from serving.bundle.holder import Role

READY_SECONDS: Final = 60.0
_ASK_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.2
_NO_PROXY: Final = (("grpc.enable_http_proxy", 0),)  # http_proxy is for the world outside

_Check: TypeAlias = tuple[Process, Callable[[], bool]]


class StartError(Exception):
    """A server that does not come up.

    Args:
        process: the one to look at.
        message: what it did instead.
    """

    def __init__(self, process: Process, message: str) -> None:
        super().__init__(message)
        self.process = process


def wait_until_ready(
    plan: Plan,
    supervisor: Supervisor,
    stop_request: StopRequest,
    bundle_id: str,
    within_seconds: float = READY_SECONDS,
) -> None:
    """Return once every server serves a bundle and Envoy sees the gateway, or on a stop request.

    A server may be SERVING and hold another one: where its settings make it wait, or this one is damaged.

    Raises:
        StartError: a process ended, or was not ready in time.
    """
    with ExitStack() as opened:
        checks: list[_Check] = []
        for server in (*plan.stages, plan.gateway):
            channel = opened.enter_context(grpc.insecure_channel(server.target, _NO_PROXY))
            checks.append((server.process, _health_check(channel, server.service)))
            metrics = opened.enter_context(_http(f"http://localhost:{server.metrics_port.number}"))
            checks.append((server.process, _bundle_check(metrics, bundle_id)))
        checks.append((plan.envoy, _readiness_check(opened.enter_context(_http(plan.url)))))
        _wait(checks, supervisor, stop_request, bundle_id, time.monotonic() + within_seconds)


def _wait(
    checks: Sequence[_Check],
    supervisor: Supervisor,
    stop_request: StopRequest,
    bundle_id: str,
    end: float,
) -> None:
    waiting = list(checks)
    while waiting:
        for exit_ in supervisor.new_exits():
            raise StartError(exit_.process, f"{exit_.process.name} {exit_.cause}")
        waiting = [(process, check) for process, check in waiting if not check()]
        if waiting and time.monotonic() > end:
            names = ", ".join(dict.fromkeys(process.name for process, _ in waiting))
            raise StartError(waiting[0][0], f"not serving bundle {bundle_id} in time: {names}")
        if waiting and stop_request.wait(_PAUSE_SECONDS):
            return


def _health_check(channel: grpc.Channel, service: str) -> Callable[[], bool]:
    check = channel.unary_unary(  # as the generated stub, whose type hints know no methods
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    request = health_pb2.HealthCheckRequest(service=service)

    def serves() -> bool:
        try:
            answer: health_pb2.HealthCheckResponse = check(request, timeout=_ASK_SECONDS)
        except grpc.RpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    return serves


def _http(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=_ASK_SECONDS, trust_env=False)


def _bundle_check(metrics: httpx.Client, bundle_id: str) -> Callable[[], bool]:
    current = {"bundle_id": bundle_id, "role": Role.CURRENT}

    def answers_from_it() -> bool:
        try:
            page = metrics.get("/metrics").text
        except httpx.TransportError:
            return False
        return any(
            sample.name == "movierec_bundle_info" and sample.labels == current
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        )

    return answers_from_it


def _readiness_check(client: httpx.Client) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return client.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    return ready
