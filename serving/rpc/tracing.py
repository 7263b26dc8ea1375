"""What tracing adds to the servers and channels of a process: where it is off, nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from grpc import aio

_NOTHING: Final[AbstractContextManager[Mapping[str, str]]] = nullcontext(MappingProxyType({}))

SHARED_WITH: Final[ContextVar[tuple[Context, ...]]] = ContextVar("SHARED_WITH", default=())
"""While a call is made for several requests: the contexts of all but the first, whose own is current."""


@dataclass(frozen=True)
class Tracing:
    """What tracing adds to a process; as it is, nothing."""

    server_interceptors: Sequence[aio.ServerInterceptor] = ()
    """Stand before all others of a server."""
    client_interceptors: Sequence[aio.ClientInterceptor] = ()
    """Stand before all others of a channel."""
    joined: Callable[[str], AbstractContextManager[Mapping[str, str]]] = lambda _request_id: _NOTHING
    """Joins the trace of a call to its request id; gives the fields that log lines of the call carry."""


OFF: Final = Tracing()
"""No tracing."""
