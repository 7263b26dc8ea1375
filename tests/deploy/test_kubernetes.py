"""What the Kubernetes manifests promise: to the cluster, to the code and to each other."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from deploy import envoy_config
from gateway.servicer import SERVICE_NAME
from gateway.settings import GatewaySettings
from serving.bundle import SETTLE_SECONDS
from serving.rpc.server import LIVENESS
from serving.settings import load_settings
from serving.stages import candidate, ranking, similarity
from tests.deploy.manifests import (
    CONFINED,
    FOLDER,
    OPTIONS,
    OVERLAYS,
    SERVERS,
    SETTINGS,
    SHARDED_OPTIONS,
    STAGES,
    Manifests,
    Object,
    Peer,
    Pod,
    allowed,
    manifests,
    rendered,
    require_known_command,
    selects,
)
from training.data.movielens.layouts import DATA_DIR_VARIABLE

SERVICE_NAMES = {
    "candidate": candidate.SERVICE.full_name,
    "gateway": SERVICE_NAME,
    "ranking": ranking.SERVICE.full_name,
    "similarity": similarity.SERVICE.full_name,
}
OTHERS_VARIABLES = {
    DATA_DIR_VARIABLE,
    "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
    "MLFLOW_TRACKING_URI",
    "MOVIEREC_BUNDLE_FOLDER",
    "MOVIEREC_CONSOLE",
    "MOVIEREC_USER_SHARD",
    "MPLCONFIGDIR",
}
"""Read by training, sync, Envoy's entry point, or a library: none of them may be misspelt."""

TRACING_VARIABLES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}
IMAGES = {*SERVERS, "envoy", "sync", "training"}
EDGE_METRICS = 9105
DNS_SECONDS = 30
"""How old an answer of a cluster's DNS may be: `ttl 30` and `cache 30` in the Corefile of kubeadm."""
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
Load: TypeAlias = Callable[[Manifests, Object, str], Any]
"""Reads a server's settings from the environment of a container."""


@pytest.fixture(params=(*OVERLAYS, OPTIONS, SHARDED_OPTIONS))
def overlay(request: pytest.FixtureRequest) -> Manifests:
    return manifests(request.param)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:

    def load(overlay: Manifests, container: Object, server: str) -> Any:
        for name, value in overlay.settings(container).items():
            monkeypatch.setenv(name, value)
        return load_settings(SETTINGS[server])

    return load


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(overlay: Manifests, version: str) -> None:
    for one in overlay.objects:
        if not one["apiVersion"].startswith("sparkoperator.k8s.io/"):  # test_kubernetes_spark.py
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.row(60)
def test_everything_is_in_one_namespace_that_refuses_privileges(overlay: Manifests) -> None:
    ((name, namespace),) = overlay.of("Namespace").items()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"].get("namespace", name) for one in overlay.objects} == {name}


@pytest.mark.row(60)
def test_no_pod_has_rights_that_it_does_not_need(overlay: Manifests) -> None:
    accounts = overlay.of("ServiceAccount")
    assert set(overlay.of("RoleBinding")) <= {"training-spark"}  # a Spark driver starts pods
    for pod in overlay.pods():
        spec = pod.spec
        assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False
        assert spec["automountServiceAccountToken"] is False, pod.owner
        assert spec["enableServiceLinks"] is False, pod.owner  # else a Service would set variables of ours
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("hostPath" in volume for volume in spec.get("volumes", []))
        for container in pod.containers:
            assert container["securityContext"] == CONFINED, (pod.owner, container["name"])


@pytest.mark.row(60)
def test_every_container_has_requests_and_limits(overlay: Manifests) -> None:
    for pod in overlay.pods():
        for container in pod.containers:
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) == {"cpu", "memory"}, (pod.owner, container["name"])


def test_images_are_ours_and_tagged_in_one_place() -> None:
    for name, tag in (("laptop", "dev"), ("production", "set-me"), ("sharded", "set-me")):
        found = {container["image"] for pod in manifests(name).pods() for container in pod.containers}
        assert found == {f"movierec-{image}:{tag}" for image in IMAGES}


@pytest.mark.parametrize("overlay_", OVERLAYS)
def test_a_kustomization_of_ones_own_names_images_as_the_page_does(overlay_: str, tmp_path: Path) -> None:
    page = (FOLDER.parents[1] / "docs" / "operations" / "kubernetes.md").read_text()
    (written,) = re.findall(r"^   images:\n     - (.*)$", page, re.MULTILINE)
    image = yaml.safe_load(written)
    assert image["name"] == "movierec-ranking"
    content = {
        "resources": [os.path.relpath(FOLDER / "overlays" / overlay_, tmp_path)],
        "images": [yaml.safe_load(written.replace("ranking", name)) for name in sorted(IMAGES)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    found = {container["image"] for pod in rendered(tmp_path).pods() for container in pod.containers}
    assert found == {f"registry.example.com/movierec-{name}:1.0" for name in IMAGES}


@pytest.mark.parametrize("server", SERVERS)
def test_servers_are_probed_where_they_listen(overlay: Manifests, server: str) -> None:
    port = SETTINGS[server].model_fields["port"].default
    metrics_port = SETTINGS[server].model_fields["metrics_port"].default
    assert overlay.servers(server)
    for pod in overlay.servers(server):
        container = pod.container("server")
        assert container["image"].rpartition("/")[2].startswith(f"movierec-{server}:")
        assert _ports(container) == {"grpc": port, "metrics": metrics_port}
        readiness, liveness = _probe(container, "readiness"), _probe(container, "liveness")
        assert _probe(container, "startup") == liveness
        if any("tls.crt" in value for value in overlay.settings(container).values()):
            # Kubernetes' gRPC probes know no TLS.
            command = ["nice", "-n", "19", "python", "-m", "serving.rpc.health_check", server]
            assert readiness == {"exec": {"command": command}}
            assert liveness == {"tcpSocket": {"port": "grpc"}}
        else:
            assert readiness == {"grpc": {"port": port, "service": SERVICE_NAMES[server]}}
            assert liveness == {"grpc": {"port": port, "service": LIVENESS}}
        service = overlay.of("Service")[pod.name]["spec"]
        assert service["clusterIP"] == "None"  # Envoy sees every replica
        assert {one["name"]: one["port"] for one in service["ports"]} == _ports(container)


def test_the_edge_is_ready_when_its_gateway_is(overlay: Manifests) -> None:
    envoy = overlay.pod("Deployment/gateway").container("envoy")
    assert _ports(envoy) == {"http": 8080, "edge-metrics": EDGE_METRICS}
    assert envoy["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    for probe in ("livenessProbe", "startupProbe"):
        assert envoy[probe]["httpGet"] == {"path": "/healthz", "port": "edge-metrics"}


def test_envoy_and_gateway_agree_on_the_way_to_the_stages(overlay: Manifests) -> None:
    pod = overlay.pod("Deployment/gateway")
    server, envoy = pod.container("server"), pod.container("envoy")
    variables = overlay.settings(server)
    place = envoy_config.KUBERNETES
    if GatewaySettings.variable("user_shards") in variables:
        place = envoy_config.sharded(place, int(variables[GatewaySettings.variable("user_shards")]))
    assert place.edge == ("0.0.0.0", _ports(envoy)["http"])  # noqa: S104
    assert place.gateway == (("127.0.0.1", _ports(server)["grpc"]),)
    for stage in place.stages:
        target = variables[GatewaySettings.variable(f"{stage.name}_target")]
        assert target == f"{place.mesh_host}:{stage.mesh_port}"
        called = [endpoint for cluster in stage.clusters for endpoint in cluster.endpoints]
        assert called == [
            (one.name, _ports(one.container("server"))["grpc"]) for one in overlay.servers(stage.name)
        ]
        assert stage.service == SERVICE_NAMES[stage.name]
    assert envoy["args"][:2] == ["--config-path", str(place.files / "kubernetes.yaml")]
    assert envoy["resources"]["limits"]["memory"] == "512Mi"
    assert envoy_config.Options().heap_bytes <= 512 * 1024 * 1024 / 2


def test_the_gateway_serves_until_envoy_has_drained(overlay: Manifests) -> None:
    pod = overlay.pod("Deployment/gateway")
    command = pod.container("envoy")["lifecycle"]["preStop"]["exec"]["command"]
    assert command == [str(envoy_config.KUBERNETES.files / "entrypoint.sh"), "drain", "inboundonly"]
    text = (FOLDER.parent / "envoy" / "entrypoint.sh").read_text()
    seconds = [int(found) for found in re.findall(r"^#   (?:ENVOY_\w+=)?(\d+) ", text, re.MULTILINE)]
    assert len(seconds) == 3  # unready, drain, requests in flight
    assert pod.container("server")["lifecycle"]["preStop"]["sleep"]["seconds"] == sum(seconds)


def test_whatever_runs_for_long_is_probed(overlay: Manifests) -> None:
    for pod in overlay.pods():
        if pod.owner.startswith("Deployment/"):
            for container in pod.spec["containers"]:
                if container["name"] != "sync":  # listens to nothing, and ends when it fails
                    assert {"livenessProbe", "readinessProbe", "startupProbe"} <= set(container)


def test_one_missed_probe_takes_no_pod_away(overlay: Manifests) -> None:
    """Else all replicas leave at once when all are busy, and DNS names nobody."""
    for pod in overlay.pods():
        for container in pod.containers:
            for kind in ("readiness", "liveness"):
                assert container.get(f"{kind}Probe", {}).get("failureThreshold", 3) == 3, (pod.owner, kind)


def test_an_old_pod_leaves_when_dns_has_named_the_new_one(overlay: Manifests) -> None:
    for pod in overlay.servers():
        spec = overlay.of("Deployment")[pod.name]["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert spec["minReadySeconds"] > DNS_SECONDS


def test_pods_that_do_not_serve_hold_up_no_drain(overlay: Manifests) -> None:
    for budget in overlay.of("PodDisruptionBudget").values():
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("server", SERVERS)
def test_settings_are_those_of_the_code(overlay: Manifests, server: str, load: Load) -> None:
    kind = SETTINGS[server]
    for pod in overlay.servers(server):
        container = pod.container("server")
        variables = overlay.settings(container)
        assert set(variables) <= {kind.variable(field) for field in kind.model_fields} | TRACING_VARIABLES
        settings = load(overlay, container, server)
        assert settings.host == "0.0.0.0"  # noqa: S104  # in a pod, behind a NetworkPolicy
        (mount,) = (one for one in container["volumeMounts"] if one["name"] == "bundles")
        assert mount == {"name": "bundles", "mountPath": str(settings.bundle_root), "readOnly": True}


def test_no_variable_of_others_is_misspelt(overlay: Manifests) -> None:
    for pod in overlay.pods():
        for container in pod.containers:
            if container["name"] != "server":
                assert set(overlay.settings(container)) <= OTHERS_VARIABLES, (pod.owner, container["name"])


@pytest.mark.parametrize("server", SERVERS)
def test_nobody_is_killed_while_stopping(overlay: Manifests, server: str, load: Load) -> None:
    for pod in overlay.servers(server):
        container = pod.container("server")
        settings = load(overlay, container, server)
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        unready = before + settings.drain_delay_seconds
        assert 5 <= unready <= 15  # the cluster needs some time to stop sending requests
        assert settings.drain_seconds >= GatewaySettings.model_fields["batch_seconds"].default + 1
        assert pod.spec["terminationGracePeriodSeconds"] >= unready + settings.drain_seconds + 5


@pytest.mark.parametrize("stage", ["candidate", "similarity"])
def test_a_pod_that_starts_waits_with_the_others_for_a_new_bundle(overlay: Manifests, stage: str) -> None:
    for pod in overlay.servers(stage):
        variables = overlay.settings(pod.container("server"))
        assert variables[SETTINGS[stage].variable("settle_at_start")] == "true"


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("stage", ["candidate", "ranking"])
def test_queries_wait_for_each_other_once_all_replicas_are_busy(
    name: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = manifests(name)
    variables = overlay.settings(overlay.pod("Deployment/gateway").container("server"))
    for pod in overlay.servers(stage):
        replicas = overlay.of("HorizontalPodAutoscaler")[pod.name]["spec"]["minReplicas"]
        assert variables[GatewaySettings.variable(f"{stage}_max_calls")] == str(replicas)


def test_selectors_and_references_find_what_they_mean(overlay: Manifests) -> None:
    pods = overlay.pods()
    for deployment in overlay.of("Deployment").values():
        template = deployment["spec"]["template"]
        assert selects(deployment["spec"]["selector"], template["metadata"]["labels"])
        for spread in template["spec"].get("topologySpreadConstraints", []):
            assert spread["labelSelector"] == deployment["spec"]["selector"]
    for name, service in overlay.of("Service").items():
        (found,) = _selected(pods, {"matchLabels": service["spec"]["selector"]})
        named = {port["name"] for one in found.containers for port in one.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named, name
    for name, budget in overlay.of("PodDisruptionBudget").items():
        (found,) = _selected(pods, budget["spec"]["selector"])
        assert found.owner == f"Deployment/{name}"
    for name, scaler in overlay.of("HorizontalPodAutoscaler").items():
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in overlay.of(target["kind"])[target["name"]]["spec"]  # not two to say how many
        pod = overlay.pod(f"{target['kind']}/{target['name']}")
        for metric in scaler["spec"]["metrics"]:
            pod.container(metric["containerResource"]["container"])
        assert target["name"] == name
    claims = overlay.of("PersistentVolumeClaim")
    for pod in pods:
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        mounted = {mount["name"] for one in pod.containers for mount in one.get("volumeMounts", [])}
        assert mounted == set(volumes), pod.owner
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims


def test_each_server_has_budget_autoscaler_and_spread(overlay: Manifests) -> None:
    for kind in ("PodDisruptionBudget", "HorizontalPodAutoscaler"):
        assert set(overlay.of(kind)) == {pod.name for pod in overlay.servers()}
    for pod in overlay.servers():
        spread = pod.spec["topologySpreadConstraints"]
        assert {one["topologyKey"] for one in spread} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }


@pytest.mark.parametrize("server", SERVERS)
def test_bundles_come_from_the_registry(overlay: Manifests, server: str) -> None:
    for pod in overlay.servers(server):
        first, sync = pod.container("first-bundle"), pod.container("sync")
        assert first["args"] == [*sync["args"], "--until-synced"]
        # All pods have the new bundle before the first of them answers from it.
        assert float(sync["args"][sync["args"].index("--watch") + 1]) <= SETTLE_SECONDS / 3
        shard = overlay.settings(pod.container("server")).get(SETTINGS[server].variable("user_shard"))
        expected = {
            "MLFLOW_TRACKING_URI": _registry(overlay),
            "MOVIEREC_BUNDLE_FOLDER": "metadata.labels['app.kubernetes.io/component']",
        }
        if shard is not None:
            expected["MOVIEREC_USER_SHARD"] = shard
        assert overlay.settings(first) == overlay.settings(sync) == expected
        bundles = {"name": "bundles", "mountPath": "/var/lib/movierec"}
        assert bundles in first["volumeMounts"]
        assert bundles in sync["volumeMounts"]
        assert "emptyDir" in next(one for one in pod.spec["volumes"] if one["name"] == "bundles")


@pytest.mark.parametrize("name", ["sharded", SHARDED_OPTIONS])
def test_all_that_know_of_shards_agree_on_their_number(name: str) -> None:
    overlay = manifests(name)
    gateway = overlay.pod("Deployment/gateway")
    n_shards = int(overlay.settings(gateway.container("server"))[GatewaySettings.variable("user_shards")])
    for stage in ("candidate", "ranking"):
        shards = {
            pod.name: overlay.settings(pod.container("server"))[SETTINGS[stage].variable("user_shard")]
            for pod in overlay.servers(stage)
        }
        assert shards == {f"{stage}-shard-{index}": f"{index}/{n_shards}" for index in range(n_shards)}
    (train,) = _training_arguments(overlay)
    assert train[-2:] == ["--user-shards", str(n_shards)]
    (mount,) = (one for one in gateway.container("envoy")["volumeMounts"] if one["name"] == "envoy")
    assert mount["mountPath"] == gateway.container("envoy")["args"][1]
    (volume,) = (one for one in gateway.spec["volumes"] if one["name"] == "envoy")
    config = overlay.of("ConfigMap")[volume["configMap"]["name"]]["data"][mount["subPath"]]
    place = envoy_config.sharded(envoy_config.KUBERNETES, n_shards)
    options = envoy_config.Options(mesh_tls=name == SHARDED_OPTIONS)
    assert config == envoy_config.render(place, options, root=FOLDER.parents[1])


def test_a_shard_is_two_replicas_that_no_other_shard_is_counted_with() -> None:
    overlay = manifests("sharded")
    for pod in overlay.servers("candidate", "ranking"):
        assert overlay.of("HorizontalPodAutoscaler")[pod.name]["spec"]["minReplicas"] == 2
        for selector in (
            overlay.of("Deployment")[pod.name]["spec"]["selector"],
            overlay.of("PodDisruptionBudget")[pod.name]["spec"]["selector"],
            {"matchLabels": overlay.of("Service")[pod.name]["spec"]["selector"]},
        ):
            assert [one.name for one in overlay.pods() if selects(selector, one.labels)] == [pod.name]


def test_training_runs_one_at_a_time_and_asks_for_what_there_is(
    overlay: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in overlay.of("CronJob").values():
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert len({*overlay.of("CronJob"), *overlay.of("ScheduledSparkApplication")} & {"training"}) == 1
    by_hand = {name for name, job in overlay.of("CronJob").items() if job["spec"].get("suspend")}
    assert by_hand == {"promote", "rollback"}

    for pod in overlay.pods():
        for container in pod.containers:
            if "movierec-training:" in container["image"] and "command" not in container:
                for variable, value in overlay.settings(container).items():
                    monkeypatch.setenv(variable, value)
                require_known_command(container["args"])


def test_a_job_that_runs_again_trains_nothing_twice(overlay: Manifests) -> None:
    jobs = _training_arguments(overlay)
    assert jobs
    for arguments in jobs:
        assert "--reuse" in arguments


@pytest.mark.parametrize("name", [OPTIONS, SHARDED_OPTIONS])
def test_every_server_is_traced(name: str) -> None:
    overlay = manifests(name)
    for pod in overlay.servers():
        assert set(overlay.settings(pod.container("server"))) >= TRACING_VARIABLES, pod.owner


@pytest.mark.parametrize("name", [OPTIONS, SHARDED_OPTIONS])
@pytest.mark.parametrize("server", SERVERS)
def test_certificates_lie_where_settings_and_envoy_look(name: str, server: str, load: Load) -> None:
    overlay = manifests(name)
    for pod in overlay.servers(server):
        container = pod.container("server")
        settings = load(overlay, container, server)
        secret = next(one["secret"] for one in pod.spec["volumes"] if one["name"] == "tls")
        assert secret["secretName"] == f"{server}-tls"  # the name that Envoy looks for, in shards, too
        mounted = {"name": "tls", "mountPath": "/etc/movierec/tls/mesh", "readOnly": True}
        assert mounted in container["volumeMounts"]
        files = (settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)
        assert [str(one) for one in files] == [
            f"/etc/movierec/tls/mesh/{file}" for file in ("tls.crt", "tls.key", "ca.crt")
        ]
        if server == "gateway":
            envoy = pod.container("envoy")
            assert mounted in envoy["volumeMounts"]
            (config,) = (one for one in envoy["volumeMounts"] if one["name"] == "envoy")
            assert config["mountPath"] == envoy["args"][1]


@pytest.mark.row(53)
def test_production_tells_less(load: Load) -> None:
    overlay = manifests("production")
    for server in SERVERS:
        settings = load(overlay, overlay.pod(f"Deployment/{server}").container("server"), server)
        assert settings.reflection is False
        assert getattr(settings, "why_movie", False) is False
    envoy = overlay.pod("Deployment/gateway").container("envoy")
    assert overlay.settings(envoy) == {"MOVIEREC_CONSOLE": "false"}
    assert all(one["spec"]["minReplicas"] >= 3 for one in overlay.of("HorizontalPodAutoscaler").values())
    assert all(one["spec"].get("type", "ClusterIP") == "ClusterIP" for one in overlay.of("Service").values())


OURS = {"kubernetes.io/metadata.name": "movierec"}
CLIENT = {"movierec.io/client": "true"}
ANYBODY = Peer({"app": "anything"}, {"kubernetes.io/metadata.name": "elsewhere"}, ours=False)
INTERNET = Peer({}, {}, ours=False)
PROMETHEUS = Peer(
    {"app.kubernetes.io/name": "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"}, ours=False
)
COLLECTOR = Peer({"app.kubernetes.io/name": "opentelemetry-collector"}, PROMETHEUS.namespace, ours=False)
DNS = Peer({"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}, ours=False)


def _peer(component: str) -> Peer:
    return Peer({"app.kubernetes.io/component": component}, OURS)


@pytest.mark.row(54)
def test_the_network_is_closed_but_for_what_is_needed(overlay: Manifests) -> None:
    policies = list(overlay.of("NetworkPolicy").values())
    ports = {name: SETTINGS[name].model_fields["port"].default for name in SERVERS}
    metrics = {name: SETTINGS[name].model_fields["metrics_port"].default for name in SERVERS}
    mlflow = Peer({"app.kubernetes.io/name": "mlflow"}, OURS)
    if "mlflow" not in overlay.of("Deployment"):
        mlflow = Peer(mlflow.labels, {"kubernetes.io/metadata.name": "mlflow"}, ours=False)

    peers = {
        **{name: _peer(name) for name in (*SERVERS, "training")},
        "client here": Peer(CLIENT, OURS),
        "client elsewhere": Peer(CLIENT, {"kubernetes.io/metadata.name": "shop", **CLIENT}, ours=False),
        "client that no administrator has let in": Peer(CLIENT, ANYBODY.namespace, ours=False),
        "anybody": ANYBODY,
        "anybody here": Peer({"app": "anything"}, OURS),
        "internet": INTERNET,
        "collector": COLLECTOR,
        "prometheus": PROMETHEUS,
        "dns": DNS,
        "mlflow": mlflow,
    }
    inside = [name for name, peer in peers.items() if peer.ours]
    outside = [name for name, peer in peers.items() if not peer.ours]
    expected = {(name, "gateway", 8080) for name in outside}
    expected |= {(name, "dns", 53) for name in inside}
    expected |= {
        (name, stage, ports[stage])
        for name in ("gateway", "client here", "client elsewhere")
        for stage in STAGES
    }
    expected |= {("prometheus", server, metrics[server]) for server in SERVERS}
    expected.add(("prometheus", "gateway", EDGE_METRICS))
    expected |= {(name, "mlflow", 5000) for name in (*SERVERS, "training")}
    if "download" in overlay.of("NetworkPolicy"):
        expected.add(("training", "internet", 443))
    if "tracing" in overlay.of("NetworkPolicy"):
        expected |= {(server, "collector", 4317) for server in SERVERS}
    asked = {22, 53, 443, 4317, 5000, 8080, 9901, *ports.values(), *metrics.values(), EDGE_METRICS}
    found = {
        (source, target, port)
        for source in peers
        for target in peers
        for port in asked
        if {peers[source].ours, peers[target].ours} != {False}
        and allowed(policies, peers[source], peers[target], port)
    }
    # Stages' policies name all three ports for all three: nothing listens on the others.
    found -= {(s, t, p) for s, t, p in found if t in STAGES and p in set(ports.values()) - {ports[t]}}
    # The same of metrics.
    found -= {(s, t, p) for s, t, p in found if t in SERVERS and p in set(metrics.values()) - {metrics[t]}}
    found -= {(s, t, EDGE_METRICS) for s, t, _ in found if t in STAGES}
    assert found == expected


def test_every_pod_is_meant_by_a_policy_of_its_own(overlay: Manifests) -> None:
    policies = [one["spec"] for one in overlay.of("NetworkPolicy").values()]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    for pod in overlay.pods():
        own = [one for one in policies if one["podSelector"] and selects(one["podSelector"], pod.labels)]
        assert own, pod.owner


def test_exceptions_of_checkov_have_reasons() -> None:
    lines = (FOLDER / "checkov.yaml").read_text().splitlines()
    skipped = yaml.safe_load("\n".join(lines))["skip-check"]
    assert skipped
    assert sum(line.startswith("  #") for line in lines) >= math.ceil(len(skipped) / 2)


def _ports(container: Object) -> dict[str, int]:
    return {one["name"]: one["containerPort"] for one in container["ports"]}


def _probe(container: Object, kind: str) -> Object:
    """What it does, without when."""
    return {key: value for key, value in container[f"{kind}Probe"].items() if not isinstance(value, int)}


def _selected(pods: list[Pod], selector: Object) -> list[Pod]:
    return [pod for pod in pods if selects(selector, pod.labels)]


def _training_arguments(overlay: Manifests) -> list[list[str]]:
    jobs = [one["args"] for pod in overlay.pods() for one in pod.containers if one["name"] == "train"]
    applications = overlay.of("ScheduledSparkApplication").values()
    return [*jobs, *(one["spec"]["template"]["arguments"] for one in applications)]


def _registry(overlay: Manifests) -> str:
    return "http://mlflow:5000" if "mlflow" in overlay.of("Service") else "http://mlflow.mlflow.svc:5000"
