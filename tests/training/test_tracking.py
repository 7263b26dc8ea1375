"""Runs in a real SQLite store; servers that are down or silent are real sockets."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from benchmarks.ports import free_port
from training import tracking
from training.registry import CANDIDATE, CHAMPION, Registry, RegistryError, local_store
from training.tracking import RunRecord, ServerError, send_runs, track


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_FIRST_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(tracking, "_ANSWER_SECONDS", 1)


@pytest.fixture
def down() -> str:
    """A port that nobody listens on."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def back(make_root: Callable[[str], Path]) -> str:
    """A store that stands for the server that is back."""
    return local_store(make_root("server"))


def record(folder: Path, *, bundle_id: str = "b1") -> RunRecord:
    bundle = folder / bundle_id
    (bundle / "candidate").mkdir(parents=True)
    (bundle / "candidate" / "als.json").write_text("{}")
    summary = folder / f"{bundle_id}.json"
    summary.write_text("{}")
    return RunRecord(
        experiment="two_stage_ranker",
        name="two_stage",
        parameters={"dataset_tag": "tiny", "seed": 0, "learning_rate": 0.05},
        metrics={"test_ndcg_at_10": 0.25},
        tags={"bundle_id": bundle_id, "model": "two_stage"},
        artifacts=(summary,),
        bundle=bundle,
        nested=(RunRecord("two_stage_ranker", "als", {"factors": 8}, {"test_ndcg_at_10": 0.125}),),
    )


def runs(uri: str) -> dict[str, Run]:
    client = MlflowClient(tracking_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name: run for run in client.search_runs(experiments)}


def test_a_run_is_kept_with_all_that_belongs_to_it(root: Path, tmp_path: Path) -> None:
    track(root, record(tmp_path), None)
    uri = local_store(root)
    found = runs(uri)
    run = found["two_stage"]
    assert run.data.params == {"dataset_tag": "tiny", "seed": "0", "learning_rate": "0.05"}
    assert run.data.metrics == {"test_ndcg_at_10": 0.25}
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith(f"file://{root}/mlruns/two_stage_ranker/")
    assert found["als"].data.tags["mlflow.parentRunId"] == run.info.run_id
    paths = [item.path for item in MlflowClient(tracking_uri=uri).list_artifacts(run.info.run_id)]
    assert paths == ["b1.json", "bundle"]


def test_the_latest_bundle_is_the_candidate_until_it_is_promoted(root: Path, tmp_path: Path) -> None:
    track(root, record(tmp_path), None)
    registry = Registry(local_store(root))
    assert registry.aliased(CHAMPION) is None
    assert registry.promote() == ("1", "b1")
    track(root, record(tmp_path, bundle_id="b2"), None)
    candidate, champion = registry.aliased(CANDIDATE), registry.aliased(CHAMPION)
    assert candidate is not None
    assert champion is not None
    assert (candidate.tags["bundle_id"], champion.tags["bundle_id"]) == ("b2", "b1")
    assert registry.promote() == ("2", "b2")
    assert registry.promote("b1") == ("1", "b1")
    with pytest.raises(RegistryError, match="no version holds bundle b3"):
        registry.promote("b3")


def test_an_empty_registry_has_nothing_to_promote(root: Path) -> None:
    with pytest.raises(RegistryError, match="no version is the candidate"):
        Registry(local_store(root)).promote()


@pytest.mark.parametrize("server", ["down", "silent"])
def test_a_server_that_does_not_answer_leaves_the_run_to_the_next_job(
    root: Path, back: str, tmp_path: Path, request: pytest.FixtureRequest, server: str
) -> None:
    uri: str = request.getfixturevalue(server)
    with structlog.testing.capture_logs() as logs:
        track(root, record(tmp_path), uri)
    assert [log["event"] for log in logs] == ["run kept locally; the next job or sync-runs sends it"]
    assert uri not in logs[0]["error"]
    with pytest.raises(ServerError, match="the MLflow server did not take the runs"):
        send_runs(root, uri, patient=False)
    assert send_runs(root, back, patient=True) == 2
    assert send_runs(root, back, patient=True) == 0
    sent = runs(back)
    assert sent["two_stage"].data.metrics == {"test_ndcg_at_10": 0.25}
    assert sent["als"].data.tags["mlflow.parentRunId"] == sent["two_stage"].info.run_id
    candidate = Registry(back).aliased(CANDIDATE)
    assert candidate is not None
    assert candidate.run_id == sent["two_stage"].info.run_id


def test_what_was_sent_in_part_is_completed(
    root: Path, back: str, tmp_path: Path, down: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(root, record(tmp_path), down)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", None)  # the job dies before
        with pytest.raises(ServerError):
            send_runs(root, back, patient=True)
    assert runs(back)["two_stage"].info.status == "RUNNING"
    assert send_runs(root, back, patient=True) == 2
    client = MlflowClient(tracking_uri=back)
    experiment = client.get_experiment_by_name("two_stage_ranker")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert runs(back)["two_stage"].info.status == "FINISHED"


def test_a_store_that_cannot_be_written_fails_no_job(root: Path, tmp_path: Path) -> None:
    (root / "mlflow.db").write_text("no database")
    with structlog.testing.capture_logs() as logs:
        track(root, record(tmp_path), None)
    assert [log["event"] for log in logs] == ["run not tracked"]


def test_a_server_that_is_none_leaves_the_run_in_the_local_store(root: Path, tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        track(root, record(tmp_path), "nonsense://server")
    assert [log["event"] for log in logs] == ["run kept locally; the next job or sync-runs sends it"]
    assert "two_stage" in runs(local_store(root))
