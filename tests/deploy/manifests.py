"""The Kubernetes manifests as kustomize renders them, and what they mean."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import pytest
import typer
import yaml

from candidate_service.settings import CandidateSettings
from deploy import envoy_config
from gateway.settings import GatewaySettings
from ranking_service.settings import RankingSettings
from serving.settings import ServerSettings
from similarity_service.settings import SimilaritySettings
from training.cli.train import app

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS: Final = ("laptop", "production", "sharded")
OPTIONS: Final = "production with all components"
SHARDED_OPTIONS: Final = "sharded with all components"
STAGES: Final = ("candidate", "ranking", "similarity")
SERVERS: Final = ("gateway", *STAGES)
SETTINGS: Final[Mapping[str, type[ServerSettings]]] = MappingProxyType(
    {
        "candidate": CandidateSettings,
        "gateway": GatewaySettings,
        "ranking": RankingSettings,
        "similarity": SimilaritySettings,
    }
)
"""What each server reads."""

CONFINED: Final = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""The security context of every container."""

Object: TypeAlias = Mapping[str, Any]
"""A Kubernetes object, or a part of one."""


@dataclass(frozen=True)
class Pod:
    """What a Deployment, Job or CronJob makes."""

    owner: str
    """Kind and name of what makes it."""
    labels: Mapping[str, str]
    spec: Object

    @property
    def name(self) -> str:
        """Of what makes it, and of the Service before it."""
        return self.owner.partition("/")[2]

    @property
    def containers(self) -> list[Object]:
        """All of them, those that run before the others included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self, name: str) -> Object:
        """The one of this name."""
        (found,) = (container for container in self.containers if container["name"] == name)
        return found


class Manifests:
    """All objects of an overlay."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of(self, kind: str) -> dict[str, Object]:
        """Objects of a kind, by name."""
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def pods(self) -> list[Pod]:
        """One for each template."""
        return list(self._pods())

    def pod(self, owner: str) -> Pod:
        """The one that an owner makes, such as `Deployment/gateway`."""
        (found,) = (pod for pod in self._pods() if pod.owner == owner)
        return found

    def servers(self, *processes: str) -> list[Pod]:
        """Those of the servers, or of some: one of each, and one per shard where users are in shards."""
        return [
            pod
            for pod in self._pods()
            if pod.owner.startswith("Deployment/")
            and pod.labels.get("app.kubernetes.io/component") in (processes or SERVERS)
        ]

    def settings(self, container: Object) -> dict[str, str]:
        """The container's variables; of one that a field sets, the field's path."""
        found: dict[str, str] = {}
        maps = self.of("ConfigMap")
        for source in container.get("envFrom", []):
            found |= maps[source["configMapRef"]["name"]].get("data", {})
        return found | {
            one["name"]: one["value"] if "value" in one else one["valueFrom"]["fieldRef"]["fieldPath"]
            for one in container.get("env", [])
        }

    def _pods(self) -> Iterator[Pod]:
        for one in self.objects:
            spec = one["spec"] if one["kind"] in {"CronJob", "Deployment", "Job"} else {}
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
            if template is not None:
                owner = f"{one['kind']}/{one['metadata']['name']}"
                yield Pod(owner, template["metadata"]["labels"], template["spec"])


def require_known_command(arguments: Sequence[str]) -> None:
    """Raises unless training knows the command and its options."""
    name, *options = arguments
    commands = typer.main.get_command(app)
    with commands.make_context("training", [name]) as context:
        commands.get_command(context, name).make_context(name, options)  # type: ignore[attr-defined]


@cache
def manifests(overlay: str) -> Manifests:
    """The objects of an overlay; skips the test where there is no kubectl."""
    if overlay in OVERLAYS:
        return rendered(FOLDER / "overlays" / overlay)
    name = overlay.partition(" ")[0]
    place, mesh_tls = envoy_config.KUBERNETES, "components/mesh-tls"
    config = f"{mesh_tls}/kubernetes.yaml"
    if overlay == SHARDED_OPTIONS:  # which has Envoy's configuration itself
        place, mesh_tls = envoy_config.sharded(place, 2), f"{mesh_tls}/servers"
        config = f"overlays/{name}/kubernetes.yaml"
    with TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(FOLDER, Path(folder) / "kubernetes"))
        options = envoy_config.Options(mesh_tls=True)
        (copy / config).write_text(envoy_config.render(place, options, root=FOLDER.parents[1]))
        kustomization = copy / "overlays" / name / "kustomization.yaml"
        content = yaml.safe_load(kustomization.read_text())
        components = [f"components/{one.name}" for one in sorted((FOLDER / "components").iterdir())]
        components[components.index("components/mesh-tls")] = mesh_tls
        content["components"] = [f"../../{component}" for component in components]
        kustomization.write_text(yaml.safe_dump(content))
        return rendered(kustomization.parent)


def rendered(folder: Path) -> Manifests:
    """The objects of a kustomization; skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", str(folder)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Manifests(list(yaml.safe_load_all(rendered)))


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector means these labels; an empty one means all."""
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(_holds(rule, labels) for rule in selector.get("matchExpressions", []))


def _holds(rule: Object, labels: Mapping[str, str]) -> bool:
    assert rule["operator"] == "In", rule
    return labels.get(rule["key"]) in rule["values"]


@dataclass(frozen=True)
class Peer:
    """One end of a connection."""

    labels: Mapping[str, str]
    namespace: Mapping[str, str]
    """Labels of the namespace."""
    ours: bool = True
    """Whether it is the namespace with our policies."""


def allowed(policies: list[Object], source: Peer, target: Peer, port: int) -> bool:
    """Whether NetworkPolicies let a connection through, as they are defined: any of them may, none need not.

    What other namespaces have to say is not known, and taken as a yes.
    """
    ways = (("Egress", "to", source, target), ("Ingress", "from", target, source))
    for direction, key, here, there in ways:
        if not here.ours:
            continue
        applying = [
            policy["spec"]
            for policy in policies
            if direction in policy["spec"]["policyTypes"]
            and selects(policy["spec"]["podSelector"], here.labels)
        ]
        rules = [rule for spec in applying for rule in spec.get(direction.lower(), [])]
        if applying and not any(_lets(rule, key, there, port) for rule in rules):
            return False
    return True


def _lets(rule: Object, key: str, peer: Peer, port: int) -> bool:
    ports = rule.get("ports")
    if ports is not None and not any(one["port"] <= port <= one.get("endPort", one["port"]) for one in ports):
        return False
    return key not in rule or any(_means(one, peer) for one in rule[key])


def _means(rule: Object, peer: Peer) -> bool:
    if "ipBlock" in rule:
        return not peer.labels
    in_namespace = (
        selects(rule["namespaceSelector"], peer.namespace) if "namespaceSelector" in rule else peer.ours
    )
    return in_namespace and bool(peer.labels) and selects(rule.get("podSelector", {}), peer.labels)
