"""Which requests share a stage call. Tracing reads it: a call is the child of one request only."""

from contextvars import Context, ContextVar
from typing import Final

COMPANY: Final[ContextVar[tuple[Context, ...]]] = ContextVar("COMPANY", default=())
"""While a call is made for several requests: the contexts of all but the first, whose own is current."""
