"""What both clients set up in the same way."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from movierec.gateway.v1 import movie_service_pb2

SERVICE: Final = movie_service_pb2.DESCRIPTOR.services_by_name["MovieService"].full_name
"""What a health check asks for."""
DEFAULT_TIMEOUT_SECONDS: Final = 3.0
"""Of a call with its retries: room for the edge's 2 s, or for the pause of 1 s that the gateway asks for."""
READY_SECONDS: Final = 30.0
"""How long to wait for the server by default."""
HEALTH_CHECK_SECONDS: Final = 1.0
"""How long one health check may take."""
HEALTH_PAUSE_SECONDS: Final = 0.2
"""Between two health checks."""

Metadata: TypeAlias = Mapping[str, str]
"""Sent with every call, as `{"x-api-key": "..."}`; keys in lower case."""
Options: TypeAlias = Mapping[str, int | str]
"""Of the channel, as gRPC calls them."""

_OPTIONS: Final[Options] = {
    "grpc.max_receive_message_length": 16 * 1024 * 1024,  # 100 movies, fully explained, outgrow the default
    # By default, a client would wait longer and longer for a server that was away.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 1000,
}


def channel_options(own: Options) -> Sequence[tuple[str, int | str]]:
    """Our options, and the caller's over them."""
    return tuple({**_OPTIONS, **own}.items())
