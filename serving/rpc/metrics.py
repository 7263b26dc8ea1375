"""What a server counts, and the HTTP endpoint that Prometheus reads it from."""

import errno
import socket
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import waitress
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, make_wsgi_app
from waitress import wasyncore

from serving.errors import Reason
from serving.settings import ServerSettings, StartError

PREFIX: Final = "movierec"
"""Namespace of all our metrics."""

LATENCY_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.8, 1.8, 2.0)
"""Seconds: the budgets of the deadline tree are among them."""

MAX_CONNECTIONS: Final = 32
"""Of the endpoint, which a few scrapers share; more wait until one is closed."""

_IDLE_SECONDS: Final = 5
"""Until a connection is closed on which nothing happens."""


@dataclass(frozen=True)
class ServerMetrics:
    """The metrics of every server. A process adds its own to the same registry."""

    registry: CollectorRegistry
    """What the endpoint shows."""
    requests: Counter
    """Calls answered, by method and code."""
    request_seconds: Histogram
    """How long they took, by method."""
    inflight: Gauge
    """Users at work now, by service: a call about many counts for as many."""
    waiting: Gauge
    """Users whose calls wait for a place, by service."""
    rejected: Counter
    """Calls refused before any work, by reason."""
    cancelled: Counter
    """Calls whose caller went away or ran out of time."""
    bundle_loads: Counter
    """Bundles tried, by result."""
    bundle_info: Gauge
    """1 for each bundle held, by bundle_id and role; the series goes with the bundle."""
    service: str
    """Value of the label `service`."""

    @classmethod
    def create(cls, service: str) -> "ServerMetrics":
        """Metrics at zero, on a registry of their own."""
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter = partial(Counter, namespace=PREFIX, registry=registry)
        gauge = partial(Gauge, namespace=PREFIX, registry=registry)
        metrics = cls(
            registry=registry,
            requests=counter("requests", "Calls answered.", ("method", "code")),
            request_seconds=Histogram(
                "request_seconds",
                "Time from request to answer.",
                ("method",),
                namespace=PREFIX,
                registry=registry,
                buckets=LATENCY_BUCKETS,
            ),
            inflight=gauge("inflight", "Users at work.", ("service",)),
            waiting=gauge("waiting", "Users who wait for a place.", ("service",)),
            rejected=counter("rejected", "Calls refused before any work.", ("reason",)),
            cancelled=counter("cancelled", "Calls given up by callers."),
            bundle_loads=counter("bundle_loads", "Bundles tried.", ("result",)),
            bundle_info=gauge("bundle_info", "Bundles held.", ("bundle_id", "role")),
            service=service,
        )
        for reason in (Reason.OVERLOADED, Reason.DEADLINE_TOO_SHORT):
            metrics.rejected.labels(reason)
        return metrics

    def expect(self, methods: Iterable[str], codes: Collection[str]) -> None:
        """Begins series at zero: to Prometheus, one that begins with 1 has not grown."""
        for method in methods:
            self.request_seconds.labels(method)
            for code in codes:
                self.requests.labels(method, code)


@contextmanager
def exposed(metrics: ServerMetrics, settings: ServerSettings) -> Iterator[int]:
    """Serves the metrics over HTTP while the block runs; yields the port.

    Raises:
        StartError: the port is taken or the address is not one of this machine.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.metrics_port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        # As gRPC, which listens on :: by IPv4 as well.
        dual = address[0] == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(address[:2], family=family, dualstack_ipv6=dual)
    except (OSError, UnicodeError) as error:
        of_port = isinstance(error, OSError) and error.errno in {errno.EADDRINUSE, errno.EACCES}
        variable = settings.variable("metrics_port" if of_port else "host")
        where, reason = f"{settings.host}:{settings.metrics_port}", getattr(error, "strerror", error)
        raise StartError(f"{variable}: cannot listen on {where}: {reason}") from error
    connections: dict[int, Any] = {}
    # One thread answers, and none waits for a slow client: what is not whole yet is read beside it.
    server = waitress.create_server(
        make_wsgi_app(metrics.registry),
        map=connections,
        sockets=[listening],
        threads=1,
        connection_limit=MAX_CONNECTIONS,
        channel_timeout=_IDLE_SECONDS,
        cleanup_interval=1,
        max_request_header_size=8_192,
        max_request_body_size=1,
        ident=None,
    )
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():  # waitress's own loop has no end that another thread may ask for
            wasyncore.loop(timeout=1, map=connections, count=1)

    thread = threading.Thread(target=serve, name="metrics", daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        stopped.set()
        server.trigger.pull_trigger()
        # The trigger's pipe closes after the threads that write to it: its number may soon be another file's.
        thread.join()
        server.task_dispatcher.shutdown()
        wasyncore.close_all(connections)
