"""The Prometheus endpoint."""

import socket
import urllib.request

import pytest

from serving.rpc.metrics import ServerMetrics, exposed
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


def test_taken_port_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(StartError, match=f"^METRICS_PORT: cannot listen on 127.0.0.1:{port}: "),
            exposed(ServerMetrics.create("test"), settings(metrics_port=port)),
        ):
            pass


def test_two_servers_of_one_process_do_not_share_counts() -> None:
    one, other = ServerMetrics.create("one"), ServerMetrics.create("other")
    one.cancelled.inc()
    assert other.registry.get_sample_value("movierec_cancelled_total") == 0
