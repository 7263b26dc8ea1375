"""Whether the server of this container serves: `python -m serving.rpc.health_check gateway` exits 0 or 1.

It reads the server's own settings from the environment, and asks what Envoy and Kubernetes ask. Ports have no
defaults here: images set them. A setting that is missing or bad is exit status 2. With TLS, the server's
certificate must name localhost as well.
"""

import argparse
import sys
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic_settings import SettingsConfigDict

from serving.rpc.tls import probe_credentials
from serving.settings import ServerSettings, StartError, load_settings

_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to ask, not to listen
_OPTIONS: Final = (("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "localhost"))


def main(arguments: list[str] | None = None) -> int:
    """Asks once; returns the exit status, and prints what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m serving.rpc.health_check", description=__doc__)
    parser.add_argument("process", help="whose settings to read: gateway stands for MOVIEREC_GATEWAY_*")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="for the answer")
    options = parser.parse_args(arguments)

    class Settings(ServerSettings):
        """Those of the process that every server has."""

        model_config = SettingsConfigDict(env_prefix=f"MOVIEREC_{options.process.upper()}_")

    try:
        problem = _problem(load_settings(Settings), options.timeout)
    except StartError as error:  # certificate or key cannot be read
        problem = str(error)
    if problem is not None:
        print(problem)  # noqa: T201  # engines keep it beside the state of the container
    return int(problem is not None)


def _problem(settings: ServerSettings, timeout: float) -> str | None:
    with _channel(settings) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # whose type hints know no methods
        try:
            answer: health_pb2.HealthCheckResponse = stub.Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            return f"no answer on port {settings.port}: {error.code().name}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _channel(settings: ServerSettings) -> grpc.Channel:
    host = _EVERY_ADDRESS.get(settings.host, settings.host)
    target = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
    credentials = probe_credentials(settings)
    if credentials is None:
        return grpc.insecure_channel(target, _OPTIONS)
    return grpc.secure_channel(target, credentials, _OPTIONS)


if __name__ == "__main__":
    sys.exit(main())
