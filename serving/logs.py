"""Logs: one line per event on stdout, of JSON unless told otherwise, ours and those of libraries alike."""

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, TextIO

import structlog

from serving.settings import LogLevel

MAX_CHARACTERS: Final = 200
"""Longest value in a line: clients can make logs long with what they send."""

CALL_FIELDS: Final[ContextVar[Mapping[str, str]]] = ContextVar("CALL_FIELDS", default=MappingProxyType({}))
"""What every line carries that is logged while a call is answered."""

_EXCEPTION: Final = "exception"
_MAX_EXCEPTION_CHARACTERS: Final = 10_000


def configure_logs(
    service: str,
    level: LogLevel = "info",
    stream: TextIO | None = None,
    *,
    render: structlog.typing.Processor | None = None,
) -> None:
    """Sends every event of this process to one stream.

    Args:
        service: name that every line carries.
        level: less important events are dropped.
        stream: where lines go; stdout when None.
        render: turns an event into a line; JSON when None.
    """

    def add_service(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    shared: list[structlog.typing.Processor] = [
        add_call_fields,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
    ]
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                cut_values,
                render or structlog.processors.JSONRenderer(serializer=_json),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def add_call_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the fields of the current call."""
    for key, value in CALL_FIELDS.get().items():
        event.setdefault(key, value)
    return event


def cut_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cuts values to `MAX_CHARACTERS`; a traceback may be longer, as its end matters most."""
    for key, value in event.items():
        if key == _EXCEPTION:
            event[key] = str(value)[-_MAX_EXCEPTION_CHARACTERS:]
        elif not isinstance(value, bool | int | float | None):
            event[key] = str(value)[:MAX_CHARACTERS]
    return event


def _json(event: MutableMapping[str, Any], **_options: Any) -> str:
    # json escapes all control characters and all beyond ASCII, but not DEL.
    return json.dumps(event).replace("\x7f", "\\u007f")
