"""Runs in MLflow: a local SQLite store unless the environment names a server. Never fails a job."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog
from mlflow.tracking import MlflowClient

from training.experiment import Measurement
from training.publish import recipe_record

_EXPERIMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "popularity": "popularity_baseline",
        "svd": "collaborative_filtering",
        "als": "als_candidate_generator",
        "two_stage": "two_stage_ranker",
    }
)

# The client's own defaults try for four minutes, at 120 s each. Set in the environment, where it looks.
_IMPATIENCE: Final[Mapping[str, str]] = MappingProxyType(
    {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
)

_logger = structlog.get_logger(__name__)


def track(
    measurement: Measurement, *, dataset_tag: str, bundle_id: str, root: Path, tracking_uri: str | None
) -> None:
    """Writes one run per model, with its parameters and test metrics.

    A training is worth more than its record: whatever goes wrong here is logged, and the job goes on.

    Args:
        measurement: what was measured.
        dataset_tag: which data set in which state.
        bundle_id: the bundle that was published after it.
        root: holds the local store, `mlflow.db`, and its artefacts.
        tracking_uri: of a server; the local store when None.
    """
    for variable, limit in _IMPATIENCE.items():
        os.environ.setdefault(variable, limit)
    try:
        root.mkdir(parents=True, exist_ok=True)
        uri = tracking_uri or f"sqlite:///{root.resolve() / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=uri)
        parameters = recipe_record(measurement.recipe) | {"dataset_tag": dataset_tag}
        for model, experiment in _EXPERIMENTS.items():
            run = client.create_run(_experiment(client, experiment, root, local=tracking_uri is None))
            for name, value in parameters.items():
                client.log_param(run.info.run_id, name, value)
            for part, qualities in (("test", measurement.qualities), ("val", measurement.validation)):
                for name, mean in qualities[model].means().items() if qualities else ():
                    client.log_metric(run.info.run_id, f"{part}_{name}", mean)
            client.set_tag(run.info.run_id, "bundle_id", bundle_id)
            client.set_terminated(run.info.run_id)
    except Exception as error:  # noqa: BLE001  # a missing driver, a foreign server: anything may come
        _logger.warning("run not tracked", error=str(error))


def _experiment(client: MlflowClient, name: str, root: Path, *, local: bool) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = (root.resolve() / "mlruns" / name).as_uri() if local else None
    return str(client.create_experiment(name, artifact_location=location))
