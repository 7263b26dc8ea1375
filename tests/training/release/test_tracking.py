"""Runs in a real SQLite store; servers that are down or silent are real sockets."""

import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from benchmarks.ports import free_port
from tests.training.release.candidate import holder_of, promote_candidate
from training.cli.train import app
from training.release import tracking
from training.release.local_store import local_store
from training.release.promotion import published_last
from training.release.registry import CANDIDATE, CHAMPION, Registry, RegistryError
from training.release.run_record import RunRecord
from training.release.tracking import ServerError, send_runs, track, write_records


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


KEPT = "run kept locally; the next job or sync-runs sends it"
UNRECORDED = "run not recorded yet; the next job or sync-runs does it"


def tracked(root: Path, run: RunRecord, uri: str | None = None) -> list[MutableMapping[str, Any]]:
    """What is logged while a run is tracked."""
    with structlog.testing.capture_logs() as logs:
        track(root, run, uri)
    return logs


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
    assert promote_candidate(registry) == ("1", "b1")
    track(root, record(tmp_path, bundle_id="b2"), None)
    aliased = [holder_of(alias, registry).tags["bundle_id"] for alias in (CANDIDATE, CHAMPION)]
    assert aliased == ["b2", "b1"]
    assert promote_candidate(registry) == ("2", "b2")
    assert registry.promote(registry.version_of("b1")) == ("1", "b1")
    with pytest.raises(RegistryError, match="no version holds bundle b3"):
        registry.version_of("b3")


def test_versions_are_found_on_every_page(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle_id in ("b1", "b2", "b3"):
        track(root, record(tmp_path, bundle_id=bundle_id), None)
    search = MlflowClient.search_model_versions

    def one_at_a_time(*arguments: Any, **options: Any) -> Any:
        return search(*arguments, **(options | {"max_results": 1}))

    monkeypatch.setattr(MlflowClient, "search_model_versions", one_at_a_time)
    registry = Registry(local_store(root))
    for bundle_id in ("b1", "b2", "b3"):
        assert registry.holds(bundle_id)
        assert registry.version_of(bundle_id).tags["bundle_id"] == bundle_id


def test_an_empty_registry_has_nothing_to_promote(root: Path) -> None:
    with pytest.raises(RegistryError, match="no version is the candidate"):
        published_last(root, Registry(local_store(root)), None)


@pytest.mark.row(41)
@pytest.mark.parametrize("server", ["down", "silent"])
def test_a_server_that_does_not_answer_leaves_the_run_to_the_next_job(
    root: Path, back: str, tmp_path: Path, request: pytest.FixtureRequest, server: str
) -> None:
    uri: str = request.getfixturevalue(server)
    (log,) = tracked(root, record(tmp_path), uri)
    assert log["event"] == KEPT
    assert uri not in log["error"]
    with pytest.raises(ServerError, match="the MLflow server did not take the runs"):
        send_runs(root, uri, patient=False)
    assert send_runs(root, back, patient=True) == 2
    assert send_runs(root, back, patient=True) == 0
    sent = runs(back)
    assert sent["two_stage"].data.metrics == {"test_ndcg_at_10": 0.25}
    assert sent["als"].data.tags["mlflow.parentRunId"] == sent["two_stage"].info.run_id
    assert holder_of(CANDIDATE, Registry(back)).run_id == sent["two_stage"].info.run_id


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


def test_one_run_that_the_server_refuses_stops_none_behind_it(
    root: Path, back: str, tmp_path: Path, down: str
) -> None:
    for bundle_id in ("b1", "b2"):
        track(root, record(tmp_path, bundle_id=bundle_id), down)
    first = Registry(local_store(root)).version_of("b1")
    client = MlflowClient(tracking_uri=back)
    begun = client.create_run(
        client.create_experiment("two_stage_ranker", artifact_location=(tmp_path / "back").as_uri()),
        tags={"movierec.origin": str(first.run_id)},
    )
    client.log_param(begun.info.run_id, "seed", "another")
    with pytest.raises(ServerError, match="took 2 runs, but not 1: Changing param values is not allowed"):
        send_runs(root, back, patient=True)
    assert promote_candidate(Registry(back))[1] == "b2"
    with pytest.raises(RegistryError, match="no version holds bundle b1"):
        Registry(back).version_of("b1")
    client.delete_run(begun.info.run_id)
    assert send_runs(root, back, patient=True) == 2
    registry = Registry(back)
    assert holder_of(CANDIDATE, registry).tags["bundle_id"] == "b2"  # what comes late was not published last
    assert registry.promote(registry.version_of("b1"))[1] == "b1"


def test_an_experiment_that_was_deleted_is_restored(root: Path, back: str, tmp_path: Path, down: str) -> None:
    track(root, record(tmp_path), back)
    for uri in (local_store(root), back):
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("two_stage_ranker")
        assert experiment is not None
        client.delete_experiment(experiment.experiment_id)
    track(root, record(tmp_path, bundle_id="b2"), back)
    for uri in (local_store(root), back):
        assert len(runs(uri)) == 2
        assert promote_candidate(Registry(uri))[1] == "b2"
    track(root, record(tmp_path, bundle_id="b3"), down)
    client = MlflowClient(tracking_uri=local_store(root))
    client.delete_experiment(client.search_experiments(filter_string="name != 'Default'")[0].experiment_id)
    assert send_runs(root, back, patient=True) == 2
    assert promote_candidate(Registry(back))[1] == "b3"


def lock(database: sqlite3.Connection) -> None:
    database.execute("BEGIN EXCLUSIVE")


def of_another_version(database: sqlite3.Connection) -> None:
    database.execute("UPDATE alembic_version SET version_num = 'another'")
    database.commit()


@pytest.mark.parametrize(
    ("harm", "words"),
    [(lock, "is locked by another process"), (of_another_version, "out-of-date database schema")],
)
def test_a_bundle_that_the_store_did_not_take_is_registered_later(
    root: Path, tmp_path: Path, harm: Callable[[sqlite3.Connection], None], words: str
) -> None:
    def command(name: str, status: int) -> str:
        result = CliRunner().invoke(app, [name, "--bundle-root", str(root)])
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        return result.output

    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        version = database.execute("SELECT version_num FROM alembic_version").fetchone()
        harm(database)
        (log,) = tracked(root, record(tmp_path))
        assert log["event"] == UNRECORDED
        assert words in log["error"]
        assert words in command("promote", 1)
        database.rollback()
        database.execute("UPDATE alembic_version SET version_num = ?", version)
        database.commit()
    assert command("promote", 1) == (
        f"bundle b1 was published last in {root}, but its run is not recorded yet: `python -m training "
        "sync-runs` does it\n"
    )
    assert command("sync-runs", 0) == "1 runs recorded\n"
    assert command("promote", 0).startswith("Version 1 is the champion: bundle b1\n")
    assert not list((root / "unrecorded").iterdir())


def test_a_record_that_cannot_be_read_is_named(root: Path, tmp_path: Path, down: str) -> None:
    track(root, record(tmp_path), down)
    kept = root / "unrecorded" / str(10**19)
    kept.mkdir()
    for content in ("{}", "", "[]"):
        (kept / "record.json").write_text(content)
        for command in ("promote", "sync-runs"):
            result = CliRunner().invoke(app, [command, "--bundle-root", str(root)])
            assert result.exit_code == 1, result.output
            assert f"the record of a run in {kept} cannot be read" in result.output
            assert "Traceback" not in result.output
    result = CliRunner().invoke(app, ["sync-runs", "--bundle-root", str(root), "--tracking-uri", down])
    assert result.exit_code == 1
    recorded, sent = result.stderr.splitlines()
    assert f"the record of a run in {kept} cannot be read" in recorded
    assert sent.startswith("the MLflow server ")
    assert "Connection refused" in sent


def test_a_record_that_was_written_in_part_is_completed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", None)  # the job dies before
        track(root, record(tmp_path / "away"), None)
    later = record(tmp_path, bundle_id="b2")
    track(root, later, None)
    found = MlflowClient(tracking_uri=local_store(root)).search_runs(["1"])
    assert sorted(run.info.run_name for run in found) == ["als", "als", "two_stage", "two_stage"]
    assert {run.info.status for run in found} == {"FINISHED"}
    assert promote_candidate(Registry(local_store(root)))[1] == "b2"
    registry = Registry(local_store(root))
    assert registry.promote(registry.version_of("b1"))[1] == "b1"


def test_a_candidate_that_is_not_what_was_published_last_is_not_promoted(
    root: Path, back: str, tmp_path: Path, down: str
) -> None:
    promote = ["promote", "--bundle-root", str(root), "--tracking-uri", back]
    track(root, record(tmp_path), back)
    track(root, record(tmp_path, bundle_id="b2"), down)
    result = CliRunner().invoke(app, promote)
    assert result.exit_code == 1
    assert "b2 was published last" in result.output
    assert "the server does not have its run yet: `python -m training sync-runs` sends it" in result.output
    assert CliRunner().invoke(app, [*promote, "--bundle-id", "b1"]).exit_code == 0
    assert send_runs(root, back, patient=True) == 2
    assert "bundle b2" in CliRunner().invoke(app, promote).output
    track(root, record(tmp_path, bundle_id="b3"), None)
    result = CliRunner().invoke(app, promote)
    assert "its job was not told of this server: train again with MLFLOW_TRACKING_URI" in result.output
    (root / "current").write_text('{"bundle_id": "b4", "published_at": 0}')
    result = CliRunner().invoke(app, promote[:3])
    assert "b4 was published last" in result.output
    assert "its run was never recorded: train again" in result.output


def test_a_file_that_is_no_store_fails_no_job(root: Path, empty_store: Path, tmp_path: Path) -> None:
    (root / "mlflow.db").write_text("no database, but something that somebody may want to keep")
    (log,) = tracked(root, record(tmp_path))
    assert log["event"] == UNRECORDED
    assert "mlflow.db is not a store of MLflow (file is not a database): move it away" in log["error"]
    shutil.copy(empty_store, root / "mlflow.db")
    assert write_records(root) == 1
    assert "two_stage" in runs(local_store(root))


def test_a_full_disk_fails_no_job(root: Path, tmp_path: Path) -> None:
    (root / "unrecorded").write_text("no folder")
    assert [log["event"] for log in tracked(root, record(tmp_path))] == ["run not tracked"]


@pytest.mark.row(41)
def test_a_server_that_is_none_leaves_the_run_in_the_local_store(root: Path, tmp_path: Path) -> None:
    assert [log["event"] for log in tracked(root, record(tmp_path), "nonsense://server")] == [KEPT]
    assert "two_stage" in runs(local_store(root))
