"""The committed Envoy configuration, as it lies in the repository."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy import envoy_config
from deploy.demo.plan import envoy_process

ROOT = Path(__file__).parents[2]


def test_envoy_accepts_the_file_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    binary, *_ = envoy_process(envoy_config.CONFIG, {}).command
    arguments = ("--mode", "validate", "--log-level", "warning", "-c", envoy_config.CONFIG)
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_rendering_changes_nothing_but_ports_and_paths() -> None:
    committed = yaml.safe_load((ROOT / envoy_config.CONFIG).read_text())
    same = envoy_config.render(
        port=envoy_config.DEFAULT_PORT, gateway_port=envoy_config.DEFAULT_GATEWAY_PORT, root=ROOT
    )
    assert yaml.safe_load(same.replace(f"{ROOT}/", "")) == committed
    moved = envoy_config.render(port=1234, gateway_port=5678, root=ROOT)
    assert moved.count("port_value: 1234") == 1
    assert moved.count("port_value: 5678") == 1


def test_listens_on_this_machine_only_and_has_no_admin() -> None:
    committed = yaml.safe_load((ROOT / envoy_config.CONFIG).read_text())
    assert "admin" not in committed
    assert '"127.0.0.1"' in json.dumps(committed["static_resources"]["listeners"])
    assert "0.0.0.0" not in json.dumps(committed)  # noqa: S104  it is looked for, not bound


def test_another_binary_can_be_named() -> None:
    command = envoy_process(envoy_config.CONFIG, {"MOVIEREC_ENVOY": "/opt/envoy"}).command
    assert command[0] == "/opt/envoy"
