"""The Prometheus endpoint."""

import re
import socket
import threading
import time
import urllib.request
from contextlib import ExitStack
from typing import Any

import pytest
from waitress.trigger import trigger

import serving.rpc.metrics
from serving.rpc.metrics import MAX_CONNECTIONS, ServerMetrics, exposed
from serving.settings import StartError
from tests.serving.server_under_test import settings


def test_metrics_are_served_while_the_block_runs() -> None:
    metrics = ServerMetrics.create("test")
    metrics.requests.labels("GetMovie", "OK").inc()
    with (
        exposed(metrics, settings()) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response,
    ):
        text = response.read().decode()
    assert 'movierec_requests_total{code="OK",method="GetMovie"} 1.0' in text
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
def test_all_addresses_are_those_of_calls() -> None:
    """Calls on :: are taken by IPv4 as well, and scrapes were refused there."""
    with exposed(ServerMetrics.create("test"), settings(host="::")) as port:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


def test_the_end_of_an_answer_writes_to_no_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that answers pulls the trigger too, and may do so once the loop has seen our pull."""
    pull = trigger.pull_trigger

    def pull_twice(*arguments: Any) -> None:
        pull(*arguments)
        time.sleep(0.1)
        pull(arguments[0])

    monkeypatch.setattr(trigger, "pull_trigger", pull_twice)
    with exposed(ServerMetrics.create("test"), settings()) as port:
        pass
    socket.create_server(("127.0.0.1", port)).close()


def test_clients_that_say_nothing_take_no_threads_and_stop_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each took a thread for as long as it liked; there are more of them than may connect."""
    monkeypatch.setattr(serving.rpc.metrics, "_IDLE_SECONDS", 1)
    metrics = ServerMetrics.create("test")
    with ExitStack() as stack:
        port = stack.enter_context(exposed(metrics, settings()))
        before = threading.active_count()
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(MAX_CONNECTIONS + 8)]
        for connection in idle:
            stack.enter_context(connection)
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
            assert b"movierec_cancelled_total 0.0" in response.read()
        assert threading.active_count() <= before  # those of other tests may end meanwhile
        for connection in idle:
            connection.settimeout(60)
            assert connection.recv(1_000)[:12] in {b"", b"HTTP/1.1 408"}  # cut off


def test_requests_with_a_body_are_refused() -> None:
    with (
        exposed(ServerMetrics.create("test"), settings()) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")


def test_taken_port_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(StartError, match=f"^METRICS_PORT: cannot listen on 127.0.0.1:{port}: "),
            exposed(ServerMetrics.create("test"), settings(metrics_port=port)),
        ):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "127..0.1"])
def test_an_address_of_no_machine_of_ours_names_its_setting(host: str) -> None:
    """The port was named, of which any would have been refused; what is no name was a traceback."""
    with (
        pytest.raises(StartError, match=f"^HOST: cannot listen on {re.escape(host)}:0: "),
        exposed(ServerMetrics.create("test"), settings(host=host)),
    ):
        pass


def test_two_servers_of_one_process_do_not_share_counts() -> None:
    one, other = ServerMetrics.create("one"), ServerMetrics.create("other")
    one.cancelled.inc()
    assert other.registry.get_sample_value("movierec_cancelled_total") == 0
