"""Whether the server of this container serves: `python -m serving.rpc.health_check gateway` exits with 0 or 1.

It reads the server's own settings from the environment, and asks what Envoy and Kubernetes ask.
"""

import argparse
import sys
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from serving.settings import ServerSettings

_METHOD: Final = "/grpc.health.v1.Health/Check"
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to ask, not to listen


def main(arguments: list[str] | None = None) -> int:
    """Asks once; returns the exit status, and says on stdout what was wrong."""
    parser = argparse.ArgumentParser(prog="python -m serving.rpc.health_check", description=__doc__)
    parser.add_argument("process", help="whose settings to read: gateway stands for MOVIEREC_GATEWAY_*")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="for the answer")
    options = parser.parse_args(arguments)
    settings = ServerSettings(_env_prefix=f"MOVIEREC_{options.process.upper()}_")
    problem = _problem(settings, options.timeout)
    if problem is not None:
        print(problem)  # noqa: T201  # the engine keeps it beside the state
    return int(problem is not None)


def _problem(settings: ServerSettings, timeout: float) -> str | None:
    with _channel(settings) as channel:
        check = channel.unary_unary(
            _METHOD,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer: health_pb2.HealthCheckResponse = check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            return f"no answer on port {settings.port}: {error.code().name}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _channel(settings: ServerSettings) -> grpc.Channel:
    host = _EVERY_ADDRESS.get(settings.host, settings.host)
    target = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
    return grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)])


if __name__ == "__main__":
    sys.exit(main())
