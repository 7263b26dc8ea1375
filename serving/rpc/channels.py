"""Channels to other servers."""

from typing import Final

import grpc
from grpc import aio

from serving.rpc.tracing import OFF, Tracing

MAX_RESPONSE_BYTES: Final = 16 * 1_024 * 1_024
"""Largest answer that is read: a page with all explanations is several MB."""

# No retry policy and no timeouts here: Envoy retries, and a service config's timeout expires at random in
# Python (grpc/grpc#34547). Every call passes its own `timeout`. What gRPC repeats by itself are calls that a
# peer says it has not looked at: without (`grpc.enable_retries` 0), some fail whenever a peer drains.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 30_000),  # a server cuts off whoever pings much oftener
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),  # servers stand beside each other; http_proxy is for the world outside
)


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None = None, tracing: Tracing = OFF
) -> aio.Channel:
    """A channel to `host:port`; connects when first used, and again at most 1 s after the peer is back.

    Without credentials it speaks plain text.
    """
    interceptors = tracing.client_interceptors
    if credentials is None:
        return aio.insecure_channel(target, options=_OPTIONS, interceptors=interceptors)
    return aio.secure_channel(target, credentials, options=_OPTIONS, interceptors=interceptors)
