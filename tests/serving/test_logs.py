"""One line of JSON per event, whatever it contains."""

import io
import json
import logging

import pytest
import structlog

from serving.logs import CALL_FIELDS, MAX_CHARACTERS


@pytest.mark.row(56)
@pytest.mark.parametrize("hostile", ["a\nb", "a\rb", "\x1b[31mred", "a\u2028b", "a\x00b", "a\x7fb", "é"])
def test_control_characters_do_not_reach_the_terminal(logs: io.StringIO, hostile: str) -> None:
    structlog.get_logger().info("event", value=hostile)
    line = logs.getvalue()
    assert line.count("\n") == 1
    assert line.rstrip("\n").isprintable()
    assert line.isascii()
    assert json.loads(line)["value"] == hostile


def test_a_line_says_when_who_and_how_bad(logs: io.StringIO) -> None:
    token = CALL_FIELDS.set({"request_id": "r"})
    structlog.get_logger().warning("event", count=3, ratio=0.5, nothing=None)
    CALL_FIELDS.reset(token)
    event = json.loads(logs.getvalue())
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "event",
        "level": "warning",
        "service": "test",
        "request_id": "r",
        "count": 3,
        "ratio": 0.5,
        "nothing": None,
    }


@pytest.mark.row(56)
def test_long_values_are_cut(logs: io.StringIO) -> None:
    structlog.get_logger().info("e" * 10_000, text="x" * 10_000, things=["y" * 10_000])
    event = json.loads(logs.getvalue())
    assert all(len(event[key]) == MAX_CHARACTERS for key in ("event", "text", "things"))


@pytest.mark.row(56)
def test_exceptions_are_one_field(logs: io.StringIO) -> None:
    try:
        int("bad\nthing")
    except ValueError:
        structlog.get_logger().exception("defect")
    line = logs.getvalue()
    assert line.count("\n") == 1
    exception = json.loads(line)["exception"]
    assert exception.startswith("Traceback")
    assert "ValueError: invalid literal" in exception


def test_libraries_log_alike(logs: io.StringIO) -> None:
    logging.getLogger("grpc").error("lost %s", "it")
    event = json.loads(logs.getvalue())
    assert (event["event"], event["logger"], event["service"]) == ("lost it", "grpc", "test")


def test_less_important_events_are_dropped(logs: io.StringIO) -> None:
    structlog.get_logger().debug("detail")
    logging.getLogger("asyncio").debug("detail")
    assert logs.getvalue() == ""
