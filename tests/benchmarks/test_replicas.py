"""What runs two of every server; to be cut off, they need a network of their own."""

import subprocess
from contextlib import chdir
from pathlib import Path

from benchmarks.replicas import SERVERS, Replica, envoy_between
from tests.deploy.edge import ROOT


def test_envoy_takes_the_way_between_the_replicas(tmp_path: Path) -> None:
    servers = {
        server: (
            Replica(server, "127.0.0.1", tmp_path / "one.log", {}),
            Replica(server, "127.0.0.2", tmp_path / "other.log", {}),
        )
        for server in SERVERS
    }
    with chdir(ROOT):
        command = envoy_between(servers, tmp_path).command
    done = subprocess.run([*command, "--mode", "validate"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
