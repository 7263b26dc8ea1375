"""Runs in MLflow, and jobs that go on without it."""

import socket
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from structlog.testing import capture_logs

from tests.training.small import RECIPE
from training.evaluation import Quality
from training.experiment import Evidence, Measurement
from training.models.ranker import Loss
from training.models.two_stage import RankerChoice
from training.publish import recipe_record
from training.tracking import track

# SQLAlchemy warns of a loader that MLflow's own mappings use.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")

EXPERIMENTS = {
    "popularity": "popularity_baseline",
    "svd": "collaborative_filtering",
    "als": "als_candidate_generator",
    "two_stage": "two_stage_ranker",
}


def measurement() -> Measurement:
    return Measurement(
        recipe=RECIPE,
        choice=RankerChoice(Loss.LOGLOSS, 50, {}),
        groups=3,
        judged_users=2,
        qualities={
            model: Quality(per_user={"ndcg_at_10": np.array([0.1, 0.3])}, coverage={"coverage_at_10": 0.5})
            for model in EXPERIMENTS
        },
        validation={},
        ease_ndcg={},
        evidence=Evidence(history_lengths=np.array([4, 5]), movie_counts=np.array([9]), truth=(), lists={}),
    )


def tracked(root: Path, uri: str | None) -> list[str]:
    """The events that were logged."""
    with capture_logs() as logs:
        track(measurement(), dataset_tag="tiny-1", bundle_id="b", root=root, tracking_uri=uri)
    return [f"{log['log_level']}: {log['event']}" for log in logs]


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_run_per_model_in_the_local_store(tmp_path: Path) -> None:
    assert tracked(tmp_path, None) == []
    assert tracked(tmp_path, None) == []  # the second run joins the experiments of the first
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    for name in EXPERIMENTS.values():
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        assert experiment.artifact_location == (tmp_path / "mlruns" / name).as_uri()
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == 2
        for run in runs:
            assert run.info.status == "FINISHED"
            assert run.data.metrics == {"test_ndcg_at_10": 0.2, "test_coverage_at_10": 0.5}
            expected = recipe_record(RECIPE) | {"dataset_tag": "tiny-1"}
            assert run.data.params == {key: str(value) for key, value in expected.items()}
            assert run.data.tags["bundle_id"] == "b"
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db"}


@pytest.mark.parametrize("uri", ["nonsense://server", "postgresql://localhost/none"])
def test_a_store_that_cannot_be_used_is_logged(tmp_path: Path, uri: str) -> None:
    assert tracked(tmp_path, uri) == ["warning: run not tracked"]


def test_a_local_store_that_is_damaged_is_logged(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, though it is as long as a page header\n" * 100)
    assert tracked(tmp_path, None) == ["warning: run not tracked"]


class Pauses:
    """Stands in for `time.sleep` between attempts, so that a test need not wait."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, seconds: float) -> None:
        """As `time.sleep`."""
        self.seconds += seconds


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    own = Pauses()
    monkeypatch.setattr("urllib3.util.retry.time.sleep", own)
    return own


def test_a_server_that_is_down_is_logged(tmp_path: Path, closed_port: str, pauses: Pauses) -> None:
    assert tracked(tmp_path, closed_port) == ["warning: run not tracked"]


def test_a_server_that_is_down_costs_at_most_5_seconds(
    tmp_path: Path, closed_port: str, pauses: Pauses
) -> None:
    tracked(tmp_path, closed_port)
    assert pauses.seconds <= 5
