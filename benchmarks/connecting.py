"""How long connecting to a busy server takes, plain and by mutual TLS: `python -m benchmarks.connecting`.

Envoy's `connect_timeout` for the stages follows from it.
"""

import asyncio
import multiprocessing
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.queues import Queue
from typing import Final

import grpc
import numpy as np
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CONNECTIONS: Final = 1_000
CALLERS: Final = 16
_PAUSE_SECONDS: Final = 0.002
_WARM_UP_SECONDS: Final = 2.0


def serve(ports: "Queue[tuple[int, int]]", key: bytes, certificates: bytes, authority: bytes) -> None:
    """Serves health in plain text and by mutual TLS, until it is killed."""

    async def main() -> None:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        credentials = grpc.ssl_server_credentials([(key, certificates)], authority, require_client_auth=True)
        plain = server.add_insecure_port("127.0.0.1:0")
        secure = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        ports.put((plain, secure))
        await server.wait_for_termination()

    asyncio.run(main())


def load(port: int) -> None:
    """Keeps the server busy, until it is killed."""

    async def call_on(channel: grpc.aio.Channel) -> None:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while True:
            await check(health_pb2.HealthCheckRequest())

    async def main() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.gather(*(call_on(channel) for _ in range(CALLERS)))

    asyncio.run(main())


async def seconds_of(
    connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]],
) -> list[float]:
    """How long each of `CONNECTIONS` took, one after the other."""
    seconds = []
    for _ in range(CONNECTIONS):
        began = time.perf_counter()
        _, writer = await connect()
        seconds.append(time.perf_counter() - began)
        writer.transport.abort()
        await asyncio.sleep(_PAUSE_SECONDS)
    return seconds


def main() -> None:
    """Measures and prints both."""
    authority = trustme.CA()
    identity = authority.issue_cert("localhost")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    identity.configure_cert(context)
    context.set_alpn_protocols(["h2"])
    processes = multiprocessing.get_context("spawn")
    ports: Queue[tuple[int, int]] = processes.Queue()
    certificates = b"".join(pem.bytes() for pem in identity.cert_chain_pems)
    files = (identity.private_key_pem.bytes(), certificates, authority.cert_pem.bytes())
    server = processes.Process(target=serve, args=(ports, *files))
    server.start()
    plain, secure = ports.get()
    callers = processes.Process(target=load, args=(plain,))
    callers.start()
    try:
        time.sleep(_WARM_UP_SECONDS)
        for name, connect in {
            "TCP": lambda: asyncio.open_connection("127.0.0.1", plain),
            "mutual TLS": lambda: asyncio.open_connection(
                "127.0.0.1", secure, ssl=context, server_hostname="localhost"
            ),
        }.items():
            taken = 1e3 * np.percentile(asyncio.run(seconds_of(connect)), [50, 99, 100])
            sys.stdout.write(
                f"{name}, {CONNECTIONS} connections: p50 {taken[0]:.1f} ms, p99 {taken[1]:.1f} ms, "
                f"longest {taken[2]:.1f} ms; load {os.getloadavg()[0]:.1f}\n"
            )
    finally:
        callers.kill()
        server.kill()


if __name__ == "__main__":
    main()
