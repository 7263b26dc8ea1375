"""Real processes: how they start, refuse to start, and stop."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.rpc.channels import open_channel
from tests.serving.authority import Authority

SECONDS = 30  # ample, and half of what would be waited for if it went wrong: no test is decided by it

SLOW_TO_LOAD = """
import runpy, time
from candidate_service.retrieval import Retriever

def load(store, bundle_id):
    print("loading", flush=True)
    time.sleep(60)

Retriever.load = load
runpy.run_module("candidate_service", run_name="__main__")
"""


def environment(service: str, **values: str) -> dict[str, str]:
    """That of a service on free ports, without the settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOVIEREC_")}
    prefix = f"MOVIEREC_{service.removesuffix('_service').upper()}_"
    ours = {"BUNDLE_ROOT": "/nowhere", "PORT": "0", "METRICS_PORT": "0"} | values
    return kept | {f"{prefix}{name}": value for name, value in ours.items()}


@contextmanager
def process(*arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, killed if the block leaves it running."""
    with subprocess.Popen(
        [sys.executable, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for_line(running: subprocess.Popen[str], text: str) -> str:
    """The first line on stdout with `text` in it."""
    assert running.stdout is not None
    too_late = threading.Timer(SECONDS, running.kill)
    too_late.start()
    try:
        for line in running.stdout:
            if text in line:
                return line
    finally:
        too_late.cancel()
    pytest.fail(f"no line with {text!r}")


@pytest.mark.parametrize("service", ["candidate_service", "gateway"])
def test_what_grpcs_core_has_to_say_is_not_among_the_log(service: str, tmp_path: Path) -> None:
    identity = Authority().issue(tmp_path, "localhost")
    files = {name.upper(): str(file) for name, file in identity.server_settings(mutual=False).items()}
    with process("-m", service, env=environment(service, **files)) as running:
        port = json.loads(wait_for_line(running, '"listening"'))["port"]
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
            client.sendall(b"no handshake of TLS")
            assert client.recv(1) == b""  # refused, which the core says
        running.send_signal(signal.SIGTERM)
        stdout, stderr = running.communicate(timeout=SECONDS)
    assert (running.returncode, stderr) == (0, "")
    assert {json.loads(line)["event"] for line in stdout.splitlines()} >= {"stopping", "stopped"}


def complaint_of(service: str, env: dict[str, str]) -> str:
    """The one line that a process ends with before it has begun."""
    with process("-m", service, env=env) as running:
        _, complaint = running.communicate(timeout=SECONDS)
    assert running.returncode == 2
    return complaint


@pytest.mark.row(39)
def test_taken_port_ends_with_2_and_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        complaint = complaint_of("candidate_service", environment("candidate", METRICS_PORT=str(port)))
    assert complaint.count("\n") == 1
    assert complaint.startswith(f"MOVIEREC_CANDIDATE_METRICS_PORT: cannot listen on 127.0.0.1:{port}")


@pytest.mark.row(39)
@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("PORT", "http", "PORT"),
        ("TLS_CERTIFICATE_FILE", "/nowhere/tls.crt", "TLS_KEY_FILE"),
        ("BUNDLE_KEY_FILE", "/nowhere/bundle-key.pub.pem", "BUNDLE_KEY_FILE"),
    ],
)
def test_bad_setting_ends_with_2_and_one_line(setting: str, value: str, named: str) -> None:
    complaint = complaint_of("candidate_service", environment("candidate", **{setting: value}))
    assert complaint.count("\n") == 1
    assert complaint.startswith(f"MOVIEREC_CANDIDATE_{named}: ")


@pytest.mark.row(35)
def test_sigterm_while_loading_ends_at_once(tmp_path: Path) -> None:
    tmp_path.joinpath("current").write_text('{"bundle_id": "b", "published_at": 0}')
    env = environment("candidate_service", BUNDLE_ROOT=str(tmp_path))
    with process("-c", SLOW_TO_LOAD, env=env) as running:
        wait_for_line(running, "loading")
        running.send_signal(signal.SIGTERM)
        assert running.wait(SECONDS) == 0


def test_sigint_ends_like_sigterm() -> None:
    with process("-m", "candidate_service", env=environment("candidate_service")) as running:
        wait_for_line(running, '"listening"')
        running.send_signal(signal.SIGINT)
        assert running.wait(SECONDS) == 0


async def health(port: int, service_name: str) -> int:
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        response = await stub.Check(health_pb2.HealthCheckRequest(service=service_name), timeout=SECONDS)
        return int(response.status)


@pytest.mark.row(34)
@pytest.mark.parametrize(
    ("service", "service_name"),
    [
        ("candidate_service", "movierec.candidate.v1.CandidateService"),
        ("ranking_service", "movierec.ranking.v1.RankingService"),
        ("similarity_service", "movierec.similarity.v1.SimilarityService"),
    ],
)
def test_a_process_with_a_bundle_serves_and_drains(
    service: str, service_name: str, bundle_root: Path
) -> None:
    env = environment(service, BUNDLE_ROOT=str(bundle_root), DRAIN_DELAY_SECONDS="60")
    with process("-m", service, env=env) as running:
        listening = json.loads(wait_for_line(running, '"listening"'))
        assert listening["service"] == service.removesuffix("_service")
        port = listening["port"]
        wait_for_line(running, '"serving"')
        assert asyncio.run(health(port, service_name)) == health_pb2.HealthCheckResponse.SERVING
        running.send_signal(signal.SIGTERM)
        wait_for_line(running, '"stopping"')
        assert asyncio.run(health(port, service_name)) == health_pb2.HealthCheckResponse.NOT_SERVING
        running.send_signal(signal.SIGTERM)  # the second one ends the drain
        assert running.wait(SECONDS) == 0


@pytest.mark.row(6)
def test_ranking_has_a_process_of_its_own_load_a_bundle_first(bundle_root: Path) -> None:
    """A damaged model may end whoever reads it."""
    with process(
        "-m", "ranking_service", env=environment("ranking", BUNDLE_ROOT=str(bundle_root))
    ) as running:
        wait_for_line(running, '"serving"')
        fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[13]) > 0, "processor time of children that have ended: proc(5)"
