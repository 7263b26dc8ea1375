"""A real MLflow server, once: runs and bundle arrive there, and the champion comes down from it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner, Result

from benchmarks.ports import free_port
from serving.bundle.store import BundleStore
from tests.conftest import Trained
from tests.training.release.test_champion import another_bundle, with_bundle
from training import sync
from training.cli.train import app
from training.release.run_record import RunRecord
from training.release.tracking import track

_START_SECONDS = 300


@pytest.fixture(scope="module")
def server(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a server that answers."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder)
    uri, port = _unused_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    artifacts = ["--artifacts-destination", str(folder), "--workers", "1"]
    log_file = folder / "log"
    with (
        pytest.MonkeyPatch.context() as patch,
        log_file.open("w") as log,
        subprocess.Popen(
            [*command, *store, *artifacts],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        patch.setenv("NO_PROXY", "127.0.0.1")
        try:
            end = time.monotonic() + _START_SECONDS
            while not _is_up(uri):
                assert process.poll() is None, log_file.read_text()
                assert time.monotonic() < end, log_file.read_text()
                time.sleep(0.2)
            yield uri
        finally:
            process.terminate()


def _unused_uri() -> tuple[str, str]:
    port = str(free_port())
    return f"http://127.0.0.1:{port}", port


def _is_up(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.mark.row(41)
def test_nothing_is_lost_that_is_deleted_or_published_while_the_server_is_away(
    server: str, root: Path, tmp_path: Path, trained: Trained
) -> None:
    """And the champion comes down from there."""

    def publish(bundle_id: str, uri: str) -> None:
        nested = (RunRecord("lost", "als", {}, {"test_ndcg_at_10": 0.1}),)
        tags, bundle = {"bundle_id": bundle_id}, store.path(bundle_id)
        track(root, RunRecord("lost", "two_stage", {"seed": 0}, {}, tags, bundle=bundle, nested=nested), uri)

    def command(name: str, uri: str = server) -> Result:
        return CliRunner().invoke(app, [name, "--bundle-root", str(root), "--tracking-uri", uri])

    away, _ = _unused_uri()
    store = with_bundle(root, trained)
    first, second = trained.bundle_id, another_bundle(store, trained.bundle_id)
    publish(first, server)
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("lost")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    publish(second, away)
    assert "the registry does not answer" in command("promote", away).stderr
    refused = command("promote")
    assert refused.exit_code == 1
    assert (
        f"bundle {second} was published last in {root}, but the server does not have its run"
        in refused.stderr
    )
    assert command("sync-runs").exit_code == 0
    promoted = command("promote")
    assert promoted.exit_code == 0, promoted.output
    assert f"is the champion: bundle {second}" in promoted.output
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["als", "als", "two_stage", "two_stage"]
    of_als = [run for run in runs if run.info.run_name == "als"]
    assert {run.data.metrics["test_ndcg_at_10"] for run in of_als} == {0.1}
    parents = {run.info.run_id for run in runs} - {run.info.run_id for run in of_als}
    assert {run.data.tags["mlflow.parentRunId"] for run in of_als} == parents

    serving = BundleStore(tmp_path / "serving")
    assert sync.main(["--bundle-root", str(serving.root), "--tracking-uri", server]) == 0
    assert serving.pointer().bundle_id == second
    assert serving.manifest(second) == store.manifest(second)
