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
from typer.testing import CliRunner, Result

from benchmarks.ports import free_port
from serving.bundle.store import BundleStore
from tests.conftest import Trained
from tests.training.release.test_champion import another_bundle, with_bundle
from training import sync
from training.cli.train import app
from training.release.registry import Registry
from training.release.run_record import RunRecord
from training.release.tracking import send_runs, track

_START_SECONDS = 300


class Server:
    """A server that can be away for a while."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        store = ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        artifacts = ["--artifacts-destination", str(self._folder), "--workers", "1"]
        log_file = self._folder / "log"
        with log_file.open("w") as log:
            self._process = subprocess.Popen(
                [*command, *store, *artifacts],
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while not _is_up(self.uri):
            assert self._process.poll() is None, log_file.read_text()
            assert time.monotonic() < end, log_file.read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends it with all that it started."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@pytest.fixture
def server(make_root: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that answers; stopped with all that it started."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(make_root("server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _is_up(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_a_bundle_travels_by_way_of_the_server(
    server: Server, root: Path, tmp_path: Path, trained: Trained
) -> None:
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
    track(root, record, server.uri)
    send_runs(root, server.uri, patient=True)  # were the machine too busy to answer within 2 s
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("two_stage_ranker")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert found["two_stage"].data.metrics == {"test_ndcg_at_10": 0.2}
    assert found["als"].data.tags["mlflow.parentRunId"] == found["two_stage"].info.run_id
    Registry(server.uri).promote()
    serving = tmp_path / "serving"
    assert sync.main(["--bundle-root", str(serving), "--tracking-uri", server.uri]) == 0
    assert BundleStore(serving).pointer().bundle_id == trained.bundle_id
    assert BundleStore(serving).manifest(trained.bundle_id) == BundleStore(trained.root).manifest(bundle.name)


def test_nothing_is_lost_that_is_deleted_or_published_while_the_server_is_away(
    server: Server, root: Path, trained: Trained
) -> None:
    def publish(store: BundleStore, bundle_id: str) -> None:
        tags = {"bundle_id": bundle_id}
        run = RunRecord("two_stage_ranker", "two_stage", {}, {}, tags, bundle=store.path(bundle_id))
        track(root, run, server.uri)

    def command(*arguments: str) -> Result:
        options = ["--bundle-root", str(root), "--tracking-uri", server.uri]
        return CliRunner().invoke(app, [*arguments, *options])

    store = with_bundle(root, trained)
    first, second = trained.bundle_id, another_bundle(store, trained.bundle_id)
    publish(store, first)
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("two_stage_ranker")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    server.stop()
    publish(store, second)
    assert "the registry does not answer" in command("promote").stderr
    server.start()
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
    assert len(client.search_runs([experiment.experiment_id])) == 2
