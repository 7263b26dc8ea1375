"""Envoy as a process, before the project's own servers."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.ports import free_port
from benchmarks.servers import Server, listening
from deploy.demo.plan import envoy_process
from deploy.envoy_config import Options, demo, render


def envoy(configuration: str, logs: Path, port: int) -> AbstractContextManager[Server]:
    """Runs Envoy while the block runs; the configuration has it listen on `port`."""
    file = logs / "envoy.yaml"
    file.write_text(configuration, encoding="utf-8")
    return listening(envoy_process(file, os.environ).command, logs / "envoy.log", port)


def edge(gateway: Server, logs: Path, options: Options) -> AbstractContextManager[Server]:
    """Runs Envoy before one gateway, as in the demo, while the block runs."""
    port = free_port()
    place = demo(port=port, gateway_port=int(gateway.target.rpartition(":")[2]))
    return envoy(render(place, options), logs, port)
