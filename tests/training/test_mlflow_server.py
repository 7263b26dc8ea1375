"""A real MLflow server, once: runs and bundle arrive there, and the champion comes down from it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from mlflow.tracking import MlflowClient

from benchmarks.ports import free_port
from serving.bundle.store import BundleStore
from tests.conftest import Trained
from training import sync
from training.registry import Registry
from training.run_record import RunRecord
from training.tracking import send_runs, track

_START_SECONDS = 120


@pytest.fixture
def server(make_root: Callable[[str], Path]) -> Iterator[str]:
    """Where it listens; stopped with all that it started."""
    folder = make_root("server")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *store, "--workers", "1"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_SECONDS
        while not _is_up(uri):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        process.terminate()
        process.wait()


def _is_up(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_a_bundle_travels_by_way_of_the_server(
    server: str, root: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    bundle = trained.root / "bundles" / trained.bundle_id
    nested = (RunRecord("two_stage_ranker", "als", {}, {"test_ndcg_at_10": 0.1}),)
    tags = {"bundle_id": bundle.name}
    record = RunRecord(
        "two_stage_ranker",
        "two_stage",
        {"seed": 0},
        {"test_ndcg_at_10": 0.2},
        tags,
        bundle=bundle,
        nested=nested,
    )
    track(root, record, server)
    send_runs(root, server, patient=True)  # were the machine too busy to answer within 2 s
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("two_stage_ranker")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert found["two_stage"].data.metrics == {"test_ndcg_at_10": 0.2}
    assert found["als"].data.tags["mlflow.parentRunId"] == found["two_stage"].info.run_id
    Registry(server).promote()
    serving = tmp_path / "serving"
    assert sync.main(["--bundle-root", str(serving), "--tracking-uri", server]) == 0
    assert BundleStore(serving).pointer().bundle_id == trained.bundle_id
    assert BundleStore(serving).manifest(trained.bundle_id) == BundleStore(trained.root).manifest(bundle.name)
