"""The nightly training on Spark, as an object of Kubeflow's operator.

No package has the schema of its kind. The pods are pod templates, which Kubernetes' own schema checks; of the
rest each field that is used is listed here, as version v1beta2 of the operator's types has it.
"""

import subprocess
from importlib.metadata import version
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.deploy.manifests import (
    CONFINED,
    FOLDER,
    OPTIONS,
    Object,
    Peer,
    allowed,
    manifests,
    require_known_command,
)
from tests.deploy.test_kubernetes import NEWEST, OLDEST, OTHERS_VARIABLES, OURS

SCHEDULED = {
    "schedule": str,
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "successfulRunHistoryLimit": int,
    "failedRunHistoryLimit": int,
    "template": {
        "type": {"Java", "Python", "R", "Scala"},
        "mode": {"client", "cluster"},
        "sparkVersion": str,
        "image": str,
        "mainApplicationFile": str,
        "arguments": list,
        "sparkConf": dict,
        "restartPolicy": {
            "type": {"Always", "Never", "OnFailure"},
            "onFailureRetries": int,
            "onFailureRetryInterval": int,
            "onSubmissionFailureRetries": int,
            "onSubmissionFailureRetryInterval": int,
        },
        "driver": {
            "cores": int,
            "coreLimit": str,
            "memory": str,
            "memoryOverhead": str,
            "serviceAccount": str,
            "template": dict,
        },
        "executor": {
            "instances": int,
            "cores": int,
            "coreLimit": str,
            "memory": str,
            "memoryOverhead": str,
            "template": dict,
        },
    },
}
"""Fields and their types; of a string that is one of some, which. Each of them is used, and no other."""
ROLES = ("driver", "executor")
ENTRYPOINT = FOLDER.parents[1] / "deploy" / "docker" / "spark-entrypoint"


@pytest.fixture(scope="module")
def application() -> Object:
    (found,) = manifests(OPTIONS).of("ScheduledSparkApplication").values()
    assert found["apiVersion"] == "sparkoperator.k8s.io/v1beta2"
    template: Object = found["spec"]["template"]
    return template


def test_the_operator_knows_every_field() -> None:
    (found,) = manifests(OPTIONS).of("ScheduledSparkApplication").values()
    _check(found["spec"], SCHEDULED, "spec")


def _check(value: Object, fields: Object, path: str) -> None:
    assert set(value) == set(fields), path
    for name, kind in fields.items():
        where = f"{path}.{name}"
        if isinstance(kind, dict):
            _check(value[name], kind, where)
        elif isinstance(kind, set):
            assert value[name] in kind, where
        else:
            assert type(value[name]) is kind, where


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field_of_the_pods(application: Object, role: str, kubernetes: str) -> None:
    kind = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": role}}
    template = kind | {"template": application[role]["template"]}
    kubernetes_validate.validate(template, kubernetes, strict=True)


@pytest.mark.parametrize("role", ROLES)
def test_only_the_driver_may_talk_to_kubernetes(application: Object, role: str) -> None:
    spec = application[role]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is (role == "driver")
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"] == {
        **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), 10001),
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = spec["containers"]
    assert container["securityContext"] == CONFINED
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_the_drivers_rights_end_at_its_namespace(application: Object) -> None:
    overlay = manifests(OPTIONS)
    account = application["driver"]["serviceAccount"]
    assert overlay.of("ServiceAccount")[account]["automountServiceAccountToken"] is False
    (binding,) = overlay.of("RoleBinding").values()
    assert [(one["kind"], one["name"]) for one in binding["subjects"]] == [("ServiceAccount", account)]
    (rule,) = overlay.of(binding["roleRef"]["kind"])[binding["roleRef"]["name"]]["rules"]
    assert set(rule["resources"]) == {"configmaps", "persistentvolumeclaims", "pods", "services"}
    assert not overlay.of("ClusterRoleBinding")


def test_the_job_is_one_that_training_knows(application: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *arguments = application["arguments"]
    assert arguments[-2:] == ["--engine", "spark"]
    require_known_command([name, *arguments])
    assert application["sparkVersion"] == version("pyspark")


def test_references_are_those_of_the_overlay(application: Object) -> None:
    overlay = manifests(OPTIONS)
    assert application["image"] == "movierec-training-spark:set-me"
    spec = application["driver"]["template"]["spec"]
    variables: dict[str, str] = {}
    for source in spec["containers"][0]["envFrom"]:
        variables |= overlay.of("ConfigMap")[source["configMapRef"]["name"]]["data"]
    assert set(variables) <= OTHERS_VARIABLES
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == set(overlay.of("PersistentVolumeClaim"))


def test_driver_and_executors_reach_each_other_and_nobody_reaches_them(application: Object) -> None:
    policies = list(manifests(OPTIONS).of("NetworkPolicy").values())
    driver, executor = (Peer(application[role]["template"]["metadata"]["labels"], OURS) for role in ROLES)
    ports = {int(application["sparkConf"][f"spark.{name}"]) for name in ("driver.port", "blockManager.port")}
    assert application["sparkConf"]["spark.driver.blockManager.port"] == "7079"
    for port in ports:
        for source in (driver, executor):
            assert allowed(policies, source, driver, port)
            assert allowed(policies, source, executor, port)
            assert not allowed(policies, Peer({"app": "anything"}, OURS), source, port)
    somewhere = Peer({}, {}, ours=False)
    mlflow = Peer({"app.kubernetes.io/name": "mlflow"}, {"kubernetes.io/metadata.name": "mlflow"}, ours=False)
    assert allowed(policies, driver, somewhere, 6443)
    assert not allowed(policies, executor, somewhere, 6443)
    assert allowed(policies, driver, mlflow, 5000)
    assert not allowed(policies, executor, mlflow, 5000)


def _said(tmp_path: Path, *arguments: str, **variables: str) -> list[str]:
    """What the entry point starts, instead of starting it."""
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (packages / "pyspark" / "bin").mkdir(parents=True)
    text = ENTRYPOINT.read_text().replace("/opt/movierec", str(tmp_path))
    for binary in (packages / "pyspark" / "bin" / "spark-submit", tmp_path / "java", tmp_path / "python"):
        binary.write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@"\n')
        binary.chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", "-c", text, "spark-entrypoint", *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_image_starts_a_driver(tmp_path: Path) -> None:
    file = "local:///opt/movierec/main.py"
    said = _said(tmp_path, "driver", "--properties-file", "a b", file, SPARK_DRIVER_BIND_ADDRESS="10.0.0.1")
    assert said == [
        "spark-submit",
        *("--conf", "spark.driver.bindAddress=10.0.0.1", "--deploy-mode", "client"),
        *("--properties-file", "a b", file),
    ]


def test_the_image_starts_an_executor(tmp_path: Path) -> None:
    said = _said(
        tmp_path,
        "executor",
        **{f"SPARK_JAVA_OPT_{number}": f"-Dn={number}" for number in range(11)},
        SPARK_EXECUTOR_MEMORY="1g",
        SPARK_DRIVER_URL="spark://driver",
        SPARK_EXECUTOR_ID="1",
        SPARK_EXECUTOR_CORES="2",
        SPARK_APPLICATION_ID="app",
        SPARK_EXECUTOR_POD_IP="10.0.0.2",
        SPARK_RESOURCE_PROFILE_ID="0",
        SPARK_EXECUTOR_POD_NAME="pod",
    )
    spark = tmp_path / "lib" / "python3.11" / "site-packages" / "pyspark"
    assert said == [
        *("java", *(f"-Dn={number}" for number in range(11)), "-Xms1g", "-Xmx1g"),
        *("-cp", f"{spark}/conf:{spark}/jars/*"),
        "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend",
        *("--driver-url", "spark://driver", "--executor-id", "1", "--cores", "2", "--app-id", "app"),
        *("--hostname", "10.0.0.2", "--resourceProfileId", "0", "--podName", "pod"),
    ]


def test_the_image_is_that_of_training_besides(tmp_path: Path) -> None:
    assert _said(tmp_path, "fill", "--limit", "20") == ["python", "-m", "training", "fill", "--limit", "20"]
