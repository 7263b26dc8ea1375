"""What holds of the compose file: every container is confined, knows its settings, and may be restarted."""

import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import SETTINGS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
IN_SHARDS: dict[str, dict[str, Any]] = yaml.safe_load(FILE.with_name("compose.sharded.yaml").read_text())[
    "services"
]
ENVOY_IN_SHARDS = {
    endpoint["endpoint"]["address"]["socket_address"]["address"]
    for cluster in yaml.safe_load((ROOT / "deploy/envoy/compose-sharded.yaml").read_text())[
        "static_resources"
    ]["clusters"]
    for group in cluster["load_assignment"]["endpoints"]
    for endpoint in group["lb_endpoints"]
}
"""Hosts that the mesh calls."""
TWICE = [f"{name}-{number}" for name in (*SETTINGS, "envoy") for number in (1, 2)]
OTHERS = {  # environment variables of programs that are not our servers
    "GF_ANALYTICS_REPORTING_ENABLED",
    "GF_AUTH_ANONYMOUS_ENABLED",
    "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
    "MLFLOW_TRACKING_URI",
    "MOVIEREC_CONSOLE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}


def test_both_versions_of_compose_can_read_it() -> None:
    assert {name for name in COMPOSE if not name.startswith("x-")} == {"networks", "services", "volumes"}
    for service in SERVICES.values():
        assert "deploy" not in service  # version 1 reads it only for a swarm
    assert not re.search(r"\$\{\w+:?[+]", FILE.read_text())  # nor does it know this one


def _keys_said_twice(node: yaml.Node | None) -> list[str]:
    """Anywhere below a node, each with its line."""
    if isinstance(node, yaml.SequenceNode):
        return [found for item in node.value for found in _keys_said_twice(item)]
    if not isinstance(node, yaml.MappingNode):
        return []
    keys = [key.value for key, _ in node.value]
    twice = [f"{key} in line {node.start_mark.line + 1}" for key in set(keys) if keys.count(key) > 1]
    return twice + [found for _, value in node.value for found in _keys_said_twice(value)]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deploy").rglob("*.y*ml")), ids=lambda file: str(file.relative_to(ROOT))
)
def test_nothing_is_said_twice(file: Path) -> None:
    """Version 2 of compose and kustomize refuse it; PyYAML and version 1 silently take the last."""
    documents = yaml.compose_all(file.read_text())
    assert [found for document in documents for found in _keys_said_twice(document)] == []


def test_everything_is_stopped_whatever_was_started() -> None:
    dry = ["make", "--dry-run", "--no-print-directory", "web-down"]
    command = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    assert profiles
    assert set(re.findall(r"--profile (\w+)", command)) == profiles


def test_there_are_two_of_everything_that_serves() -> None:
    assert set(TWICE) < set(SERVICES)
    for name in (*SETTINGS, "envoy"):
        one, two = (dict(SERVICES[f"{name}-{number}"]) for number in (1, 2))
        if name == "envoy":
            assert one.pop("ports") != two.pop("ports")
        assert one == two
        assert name in one["networks"]["inside"]["aliases"]


@pytest.mark.row(60)
@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_every_container_is_confined(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["mem_limit"]
    assert {"cap_add", "devices", "network_mode", "pid", "privileged", "user"}.isdisjoint(service)
    assert not any("docker.sock" in volume for volume in service.get("volumes", ()))
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_servers_are_reached_through_envoy_alone() -> None:
    for name, service in SERVICES.items():
        if name.rpartition("-")[0] in SETTINGS:
            assert "ports" not in service
            assert set(service["networks"]) == {"inside"}
            assert service["volumes"] == ["bundles:/var/lib/movierec:ro"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_every_variable_is_one_that_somebody_reads(name: str) -> None:
    variables = set(SERVICES[name].get("environment", {})) - OTHERS
    settings = SETTINGS.get(name.rpartition("-")[0])
    known = set() if settings is None else {settings.variable(field) for field in settings.model_fields}
    assert variables <= known


@pytest.mark.parametrize("stage", ["candidate", "similarity"])
def test_a_replica_that_starts_waits_with_the_others_for_a_new_bundle(stage: str) -> None:
    for number in (1, 2):
        environment = SERVICES[f"{stage}-{number}"]["environment"]
        assert environment[SETTINGS[stage].variable("settle_at_start")] == "true"


@pytest.mark.parametrize("name", SETTINGS)
def test_there_is_time_to_drain(name: str) -> None:
    fields = SETTINGS[name].model_fields
    needed = fields["drain_delay_seconds"].default + fields["drain_seconds"].default + 5
    assert float(SERVICES[f"{name}-1"]["stop_grace_period"].removesuffix("s")) >= needed


def test_the_gateway_calls_stages_through_the_mesh_as_often_as_they_have_replicas() -> None:
    (one,) = [SERVICES["gateway-1"]["environment"]]
    envoy = yaml.safe_load((ROOT / "deploy/envoy/compose.yaml").read_text())
    ports = {
        listener["name"]: listener["address"]["socket_address"]["port_value"]
        for listener in envoy["static_resources"]["listeners"]
    }
    for stage in ("candidate", "ranking", "similarity"):
        assert one[f"MOVIEREC_GATEWAY_{stage.upper()}_TARGET"] == f"envoy:{ports[stage]}"
    for stage in ("candidate", "ranking"):
        assert one[f"MOVIEREC_GATEWAY_{stage.upper()}_MAX_CALLS"] == "2"
    clusters = {
        cluster["name"]: cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        for cluster in envoy["static_resources"]["clusters"]
    }
    for name, settings in SETTINGS.items():
        assert clusters[name]["socket_address"] == {
            "address": name,
            "port_value": settings.model_fields["port"].default,
        }


def test_images_are_those_of_make_images_or_a_setting() -> None:
    images = {service["image"] for service in SERVICES.values()}
    ours = {f"movierec-{name}:${{VERSION:-dev}}" for name in (*SETTINGS, "envoy", "sync", "training")}
    assert images - ours == {
        "${GRAFANA_IMAGE:-grafana/grafana:12.1.0}",
        "${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}",
    }
    assert ours <= images


def test_what_is_mounted_is_there_or_declared() -> None:
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert [path for path in mounted if path.startswith("./") and not (FILE.parent / path).exists()] == []
    assert {name for name in mounted if re.fullmatch(r"\w+", name)} <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("stage", ["candidate", "ranking"])
def test_replicas_of_a_shard_are_as_others_but_for_whom_they_serve(stage: str, number: int) -> None:
    shard = f"{stage}-shard-{(number - 1) // 2}"
    variable = SETTINGS[stage].variable("user_shard")
    service = deepcopy(IN_SHARDS[f"{stage}-{number}"])  # YAML's aliases are one object
    assert service["environment"].pop(variable) == f"{(number - 1) // 2}/2"
    assert service.pop("networks") == {"inside": {"aliases": [shard]}}
    others = {key: value for key, value in SERVICES[f"{stage}-1"].items() if key != "networks"}
    assert service == ({"environment": {}} if number <= 2 else others)
    assert shard in ENVOY_IN_SHARDS


def test_all_that_know_of_shards_agree_on_their_number() -> None:
    assert IN_SHARDS["training"]["command"] == [*SERVICES["training"]["command"], "--user-shards", "2"]
    for number in (1, 2):
        variables = {SETTINGS["gateway"].variable("user_shards"): "2"}
        assert IN_SHARDS[f"gateway-{number}"] == {"environment": variables}
        command = IN_SHARDS[f"envoy-{number}"]["command"]
        assert command[:2] == ["--config-path", "/etc/movierec/compose-sharded.yaml"]
    hosts = {name for name in ENVOY_IN_SHARDS if "shard" in name}
    assert hosts == {f"{stage}-shard-{index}" for stage in ("candidate", "ranking") for index in (0, 1)}
    copied = (ROOT / "deploy/docker/envoy.Dockerfile").read_text()
    assert "deploy/envoy/compose-sharded.yaml" in copied


@pytest.mark.parametrize("command", [("docker", "compose"), ("docker-compose",)], ids=["v2", "v1"])
@pytest.mark.parametrize("data", [False, True], ids=["sample", "data"])
def test_compose_itself_takes_it(command: tuple[str, ...], data: bool, tmp_path: Path) -> None:  # noqa: FBT001
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
        pytest.skip(f"no {' '.join(command)} here")
    more = ["compose.data.yaml", "compose.sharded.yaml"] if data else []
    files = [FILE, *(FILE.with_name(name) for name in more)]
    options = [word for file in files for word in ("--file", str(file))]
    done = subprocess.run(
        [*command, *options, "--profile", "tracking", "--profile", "monitoring", "config"],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "MOVIEREC_DATA_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    training = yaml.safe_load(done.stdout)["services"]["training"]
    assert ("MOVIEREC_DATA_DIR" in training["environment"]) == data
