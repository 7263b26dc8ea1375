"""The laptop's manifests really run: its pods train, promote, follow the registry and answer in podman.

Podman knows pods, volumes and ConfigMaps, but neither Services nor jobs nor policies. The name of a pod
resolves on its network, so each Deployment becomes a pod with the name of its Service.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.bundle import SETTLE_SECONDS
from tests.deploy.manifests import SERVERS, Manifests, manifests

pytestmark = [pytest.mark.containers, pytest.mark.e2e]

NETWORK = "movierec-test"
PODS = ("mlflow", "first-training", *SERVERS)
SECONDS = 120
LESS = ["--als-iterations=3", "--ranker-iterations=20"]
"""Of training, which is not what is tested here."""
INIT = {"io.podman.annotations.init.container.type": "always"}
"""Kept when they have ended: podman 4.3 fails on removing one that is about to end."""


def podman(*arguments: str, check: bool = True) -> str:
    binary = shutil.which("podman")
    assert binary, "podman is not installed"
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the gateway's pod; all pods run."""
    overlay = manifests("laptop")
    there = podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    needed = {f"localhost/{one['image']}" for pod in overlay.pods() for one in pod.containers}
    assert needed <= set(there), "podman has not all images: make images ENGINE=podman"
    folder = tmp_path_factory.mktemp("pods")
    podman("network", "create", NETWORK)
    try:
        for name in PODS:
            play(as_pod(overlay, name), folder / f"{name}.yaml")
        yield podman_address("gateway")
    finally:
        for name in PODS:
            podman("pod", "rm", "--force", "--time", "0", name, check=False)
        podman("volume", "rm", "--force", *overlay.of("PersistentVolumeClaim"), check=False)
        podman("network", "rm", NETWORK)


def as_pod(overlay: Manifests, name: str) -> list[Any]:
    """The pod of a Deployment or Job, with all that podman needs to know besides."""
    (pod,) = (one for one in overlay.pods() if one.owner in {f"Deployment/{name}", f"Job/{name}"})
    spec = json.loads(json.dumps(pod.spec))
    spec["restartPolicy"] = "Never" if pod.owner.startswith("Job/") else "Always"
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        container["image"] = f"localhost/{container['image']}"
        container.pop("ports", None)  # it would publish them on the host
        for hook in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            container.pop(hook, None)  # it would run curl in the container, which has none
        if container.get("args", [])[:1] == ["train"]:
            container["args"] += LESS
        for mount in container.get("volumeMounts", []):
            mount["name"] = f"{name}-{mount['name']}"
    for volume in spec["volumes"]:
        volume["name"] = f"{name}-{volume['name']}"  # an emptyDir of one name is one volume to all pods
    needed = {one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "emptyDir" not in one}
    claims = {key: one for key, one in overlay.of("PersistentVolumeClaim").items() if key in needed}
    parts = [dict(one, metadata={"name": key}) for key, one in (overlay.of("ConfigMap") | claims).items()]
    metadata = {"name": name, "labels": dict(pod.labels), "annotations": INIT}
    return [*parts, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}]


def play(objects: list[Any], file: Path) -> None:
    file.write_text(yaml.safe_dump_all(objects))
    # Init containers run before the command returns: it waits for what servers wait for.
    podman("play", "kube", "--network", NETWORK, str(file))


def podman_address(pod: str) -> str:
    inspected = json.loads(podman("pod", "inspect", pod))
    infra = json.loads(podman("inspect", inspected["InfraContainerID"]))
    return str(infra[0]["NetworkSettings"]["Networks"][NETWORK]["IPAddress"])


def job(*arguments: str) -> None:
    """Runs a command of the training image on the job's volume."""
    volume, uri = "training:/var/lib/movierec", "MLFLOW_TRACKING_URI=http://mlflow:5000"
    image = "localhost/movierec-training:dev"
    podman("run", "--rm", "--network", NETWORK, "--volume", volume, "--env", uri, image, *arguments)


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, podman("pod", "ps")
        time.sleep(0.5)


def test_two_stages_answer(address: str) -> None:
    with httpx.Client(base_url=f"http://{address}:8080", trust_env=False, timeout=5) as client:

        def personal() -> dict[str, Any]:
            popular = client.get("/api/movies/popular?limit=3").raise_for_status().json()
            liked = [{"movie_id": one["movie"]["movie_id"]} for one in popular["movies"]]
            body = {"history": liked, "limit": 5}
            return dict(client.post("/api/movies/personal", json=body).raise_for_status().json())

        wait_for(lambda: client.get("/readyz").status_code == httpx.codes.OK)
        wait_for(lambda: not personal()["degraded"])
        answer = personal()
        assert answer["model"] == "two_stage"
        assert len(answer["movies"]) == 5
    pointers = {podman("exec", f"{name}-sync", "cat", "/var/lib/movierec/current") for name in SERVERS}
    (pointer,) = pointers
    assert json.loads(pointer)["bundle_id"] == answer["bundle_id"]


def test_another_champion_and_the_way_back_are_followed_without_a_mismatch(address: str) -> None:
    job("train", "--bundle-root=/var/lib/movierec", "--force", "--seed=1", *LESS)
    job("sync-runs", "--bundle-root=/var/lib/movierec")
    with httpx.Client(base_url=f"http://{address}:8080", trust_env=False, timeout=5) as client:

        def ask(seconds: float) -> list[str]:
            """The bundles of personal answers; none is degraded, except where a pod lacked processor time."""
            bundles, end = [], time.monotonic() + seconds
            while time.monotonic() < end:
                answer = client.get("/api/movies/personal?user_id=1&limit=5").raise_for_status().json()
                if answer["degraded"]:
                    assert answer["fallback_reason"] == "FALLBACK_REASON_DEPENDENCY_TIMEOUT"
                else:
                    assert answer["model"] == "two_stage"
                    bundles.append(str(answer["bundle_id"]))
            return bundles

        for arguments in ([], ["--previous"]):
            (before,) = set(ask(1))
            job("promote", *arguments)
            bundles = ask(SETTLE_SECONDS + 20)
            after = bundles[-1]
            assert bundles == [before] * bundles.count(before) + [after] * bundles.count(after)
            assert before != after
            (pointer,) = {
                podman("exec", f"{name}-sync", "cat", "/var/lib/movierec/current") for name in SERVERS
            }
            assert (json.loads(pointer)["bundle_id"], json.loads(pointer)["previous"]) == (after, before)


def test_pods_are_as_closed_as_they_say(address: str) -> None:
    for name in SERVERS:
        (server,) = json.loads(podman("inspect", f"{name}-server"))
        assert server["HostConfig"]["ReadonlyRootfs"]
        assert not server["EffectiveCaps"]
        assert server["Config"]["User"].startswith("10001")
        assert server["HostConfig"]["Memory"] == 512 * 1024 * 1024
