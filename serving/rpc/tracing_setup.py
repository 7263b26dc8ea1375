"""Whether this process traces, by OpenTelemetry's own variables."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from serving.rpc.tracing import OFF, Tracing
from serving.settings import StartError

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@contextmanager
def traced(service: str) -> Iterator[Tracing]:
    """Traces while the block runs, if OpenTelemetry's own variables name an endpoint.

    The environment is read here, as the library reads it everywhere. Leaving sends what is left, and
    waits for that no longer than `spans.FLUSH_SECONDS`.

    Args:
        service: name of this process.

    Raises:
        StartError: there is an endpoint, and tracing is not installed or does not speak its protocol.
    """
    endpoint = _first_set(_ENDPOINTS)
    if endpoint is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield OFF
        return
    protocol = _first_set(_PROTOCOLS)
    if protocol is not None and os.environ[protocol] != "grpc":
        raise StartError(f"{protocol}: must be grpc")
    try:
        from serving.rpc import spans  # noqa: PLC0415  # its packages are an extra, and slow to import
    except ModuleNotFoundError as error:
        raise StartError(
            f"{endpoint}: tracing needs the package {error.name}; install the extra: movierec[tracing]"
        ) from error
    with spans.exported(service) as tracing:
        yield tracing


def _first_set(names: Sequence[str]) -> str | None:
    return next((name for name in names if os.environ.get(name)), None)
