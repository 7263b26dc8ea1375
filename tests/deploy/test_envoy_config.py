"""The committed Envoy configurations, as they lie in the repository."""

import ipaddress
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api import annotations_pb2

from deploy import envoy_config
from deploy.demo.plan import envoy_process
from deploy.envoy_config import COMPOSE, GENERATED, KUBERNETES, Jwt, Options, Place, main
from gateway.servicer import call_costs
from gateway.settings import GatewaySettings
from movierec.gateway.v1.movie_service_pb2 import DESCRIPTOR
from serving.limiter import CallCost, Priority
from serving.stages.stage import StageName
from tests.deploy.edge import CONSOLE, FILES, ROOT

EVERY_OPTION = Options(
    cors_origins=("https://example.com",),
    jwt=Jwt(Path("/keys.json"), issuer="i", audience="a"),
    edge_tls=True,
    mesh_tls=True,
    collector=("collector", 4317),
    traced_percent=0.5,
)
TRACED = Options(collector=("collector.example", 4317), traced_percent=0.5)

PERSONAL = "/api/movies/personal"  # another route comes first

LONGEST_BACK_OFF = 0.02
every_file = pytest.mark.parametrize("path", GENERATED, ids=str)


def parsed(place: Place) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(envoy_config.render(place, root=ROOT))
    return config


def stage_clusters(place: Place) -> list[dict[str, Any]]:
    """The clusters of the stages, in the place's order."""
    clusters = {cluster["name"]: cluster for cluster in parsed(place)["static_resources"]["clusters"]}
    return [clusters[one.name] for stage in place.stages for one in stage.clusters]


def manager_of_the_edge(place: Place) -> dict[str, Any]:
    """Its connection manager."""
    (chain,) = parsed(place)["static_resources"]["listeners"][0]["filter_chains"]
    config: dict[str, Any] = chain["filters"][0]["typed_config"]
    return config


def addresses(config: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Where each listener listens."""
    return {
        listener["name"]: tuple(listener["address"]["socket_address"].values())
        for listener in config["static_resources"]["listeners"]
    }


@every_file
def test_the_committed_file_is_what_the_template_gives(path: Path) -> None:
    assert (ROOT / path).read_text() == envoy_config.render(GENERATED[path], root=ROOT), "run `make envoy`"


@every_file
def test_the_edge_traces_when_it_is_given_a_collector(path: Path) -> None:
    assert "opentelemetry" not in (ROOT / path).read_text()
    assert "opentelemetry" in envoy_config.render(GENERATED[path], TRACED, root=ROOT)


@every_file
@pytest.mark.parametrize("options", [None, TRACED], ids=["committed", "traced"])
def test_envoy_accepts_it_without_a_warning(path: Path, options: Options | None, tmp_path: Path) -> None:
    config = tmp_path / path.name
    place = replace(GENERATED[path], files=FILES, console=CONSOLE)
    config.write_text(envoy_config.render(place, options, root=ROOT))
    binary, *_ = envoy_process(config, {}).command
    arguments = ("--mode", "validate", "--log-level", "warning", "-c", config)
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_demo_listens_on_this_machine_only_and_has_no_admin() -> None:
    config = parsed(envoy_config.demo())
    assert addresses(config) == {"edge": ("127.0.0.1", 8080)}
    assert "admin" not in config


def test_where_the_images_listen() -> None:
    ports = {"candidate": 50152, "ranking": 50153, "similarity": 50154}
    edge = {"edge": ("0.0.0.0", 8080), "metrics": ("0.0.0.0", 9105)}  # noqa: S104  of a container
    assert addresses(parsed(COMPOSE)) == edge | {name: ("0.0.0.0", port) for name, port in ports.items()}  # noqa: S104
    assert addresses(parsed(KUBERNETES)) == edge | {name: ("127.0.0.1", port) for name, port in ports.items()}


@pytest.mark.row(53)
@pytest.mark.parametrize("place", [COMPOSE, KUBERNETES], ids=["compose", "kubernetes"])
def test_admin_is_on_loopback_and_can_do_no_more_than_drain_and_count(place: Place) -> None:
    admin = parsed(place)["admin"]
    assert ipaddress.ip_address(admin["address"]["socket_address"]["address"]).is_loopback
    paths = {path for match in admin["allow_paths"] for path in match.values()}
    assert paths == {"/ready", "/healthcheck/fail", "/drain_listeners", "/stats/prometheus"}


def test_the_mesh_is_the_same_in_both_images() -> None:
    compose, kubernetes = parsed(COMPOSE), parsed(KUBERNETES)
    for name in ("overload_manager", "admin"):
        assert compose[name] == kubernetes[name]
    assert stage_clusters(COMPOSE) == stage_clusters(KUBERNETES)
    on_loopback = replace(COMPOSE, mesh_host=KUBERNETES.mesh_host)
    assert (
        parsed(on_loopback)["static_resources"]["listeners"][1:]
        == kubernetes["static_resources"]["listeners"][1:]
    )


@every_file
def test_the_edge_prefers_what_the_gateway_puts_first(path: Path) -> None:
    (host,) = manager_of_the_edge(GENERATED[path])["route_config"]["virtual_hosts"]
    preferred = [route for route in host["routes"] if route.get("route", {}).get("priority") == "HIGH"]
    assert [route["metadata"] for route in preferred] == [
        {"filter_metadata": {"movierec": {"tokens": "look-up"}}}
    ] * len(preferred)
    paths = [route["match"]["safe_regex"]["regex"] for route in preferred if "safe_regex" in route["match"]]
    service = DESCRIPTOR.services_by_name["MovieService"]
    for method in service.methods:
        first = call_costs(batch_concurrency=1).get(method.name, CallCost()).priority is Priority.FIRST
        rest = method.GetOptions().Extensions[annotations_pb2.http].get
        for url in filter(None, (f"/{service.full_name}/{method.name}", rest.replace("{movie_id}", "7"))):
            assert any(re.fullmatch(regex, url) for regex in paths) is first or url == PERSONAL, url


@every_file
def test_every_priority_has_its_circuit_breaker(path: Path) -> None:
    place = GENERATED[path]
    clusters = {cluster["name"]: cluster for cluster in parsed(place)["static_resources"]["clusters"]}
    gateway, stages = clusters["gateway"], stage_clusters(place)
    limits = {limit["priority"]: limit for limit in gateway["circuit_breakers"]["thresholds"]}
    assert limits.keys() == {"DEFAULT", "HIGH"}
    assert limits["HIGH"]["max_requests"] > limits["DEFAULT"]["max_requests"]
    taken_in = 2 * GatewaySettings.model_fields["max_inflight"].default  # at work and waiting
    edges = 2 if place.gateway_replicas else 1
    assert edges * limits["DEFAULT"]["max_requests"] == taken_in
    for cluster in stages:
        (limit,) = cluster["circuit_breakers"]["thresholds"]
        assert limit["priority"] == "DEFAULT"
    replicated = [*stages, gateway] if place.gateway_replicas else stages
    for cluster in replicated:
        assert all("retry_budget" in limit for limit in cluster["circuit_breakers"]["thresholds"])


@every_file
def test_a_replica_that_vanished_leaves_time_for_another(path: Path) -> None:
    """It answers no SYN: a try's own timeout begins only once there is a connection."""
    budgets = GatewaySettings(bundle_root=Path()).budgets
    stages = [stage for stage in GENERATED[path].stages for _ in stage.clusters]
    for stage, cluster in zip(stages, stage_clusters(GENERATED[path]), strict=True):
        connect_seconds = float(cluster["connect_timeout"].removesuffix("s"))
        assert connect_seconds + LONGEST_BACK_OFF + stage.per_try_seconds < budgets.full_seconds(
            StageName(stage.name)
        )


def test_another_binary_can_be_named() -> None:
    command = envoy_process(envoy_config.CONFIG, {"MOVIEREC_ENVOY": "/opt/envoy"}).command
    assert command[0] == "/opt/envoy"


def test_printed_for_operators(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    jwt = ["--jwks", "/keys.json", "--jwt-issuer", "i", "--jwt-audience", "a"]
    traces = ["--collector", "collector:4317", "--traced-percent", "0.5"]
    main(["compose", "--cors-origin", "https://example.com", "--edge-tls", "--mesh-tls", *jwt, *traces])
    assert capsys.readouterr().out == envoy_config.render(COMPOSE, EVERY_OPTION)


def test_a_collector_may_be_an_address_of_ipv6(capsys: pytest.CaptureFixture[str]) -> None:
    """Envoy took the brackets for a part of a name, and no trace arrived."""
    main(["demo", "--collector", "[::1]:4317"])
    assert '{address: "::1", port_value: 4317}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["demo", "--jwks", "/keys.json"], "need each other"),
        (["--edge-tls"], "options need a place"),
        (["demo", "--collector", "4317"], "must be HOST:PORT"),
        (["demo", "--collector", "collector:65536"], "must be HOST:PORT"),
        (["demo", "--user-shards", "2"], "the demo has no shards"),
        (["compose", "--user-shards", "101"], "--user-shards: must be 1 to 100"),
        (["demo", "--requests-per-second", "0"], "--requests-per-second: must be 1 to"),
        (["demo", "--heap-bytes", "many"], "--heap-bytes: must be 1 to"),
        (["demo", "--traced-percent", "nan"], "--traced-percent: must be 0 to 100"),
    ],
)
def test_options_that_do_not_fit(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert complaint in capsys.readouterr().err
