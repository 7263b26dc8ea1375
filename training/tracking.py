"""Runs in MLflow: always in a store beside the bundles, and from there to a server if there is one.

A training is worth more than its record: whatever goes wrong here is logged, and the job goes on. A server
that is down or silent costs a few seconds, once; the next job, or `sync-runs`, sends what was left.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from training.registry import (
    BUNDLE_ARTIFACT,
    BUNDLE_TAG,
    CANDIDATE,
    Registry,
    limited_requests,
    local_store,
    root_cause,
)

_SQLITE: Final = "sqlite:///"
_PARENT_TAG: Final = "mlflow.parentRunId"
_UNSENT_TAG: Final = "movierec.unsent"
_ORIGIN_TAG: Final = "movierec.origin"
_SOURCE_TAGS: Final = (_UNSENT_TAG, _PARENT_TAG, "mlflow.user", "mlflow.source.name", "mlflow.source.type")

_FIRST_ANSWER_SECONDS: Final = 2.5
_ANSWER_SECONDS: Final = 2
_PATIENT_SECONDS: Final = 60

_logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """What is to be known of a run."""

    experiment: str
    name: str
    parameters: Mapping[str, str | int | float | bool]
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()
    """Files, and folders with all that is in them."""
    bundle: Path | None = None
    """A bundle to keep and to register as the candidate."""
    nested: tuple["RunRecord", ...] = ()


class ServerError(Exception):
    """The server did not take the runs. The message says why."""


def track(root: Path, record: RunRecord, tracking_uri: str | None) -> None:
    """Writes a run into the local store and sends all that the server does not have yet.

    Args:
        root: holds the local store, `mlflow.db`, and its artefacts in `mlruns`.
        record: the run.
        tracking_uri: of a server; None: there is only the local store.
    """
    try:
        _Local(root).write(record, unsent=tracking_uri is not None)
    except Exception as error:  # noqa: BLE001  # a full disk, a locked or damaged database, a library's fault
        _logger.warning("run not tracked", experiment=record.experiment, error=str(error))
        return
    if tracking_uri is not None:
        try:
            send_runs(root, tracking_uri, patient=False)
        except ServerError as error:
            _logger.warning("run kept locally; the next job or sync-runs sends it", error=str(error))


def send_runs(root: Path, tracking_uri: str, *, patient: bool) -> int:
    """Sends runs that a server was meant to have and does not have yet, the oldest first.

    What was sent in part, as a job was killed, is completed.

    Args:
        root: holds the local store.
        tracking_uri: of the server.
        patient: whether to wait for slow answers; else the first silence ends it.

    Returns:
        How many runs were sent.

    Raises:
        ServerError: the server is down, silent, or refuses.
    """
    with limited_requests(seconds=_PATIENT_SECONDS if patient else _ANSWER_SECONDS):
        try:
            if not patient:
                _expect_answer(tracking_uri)
            return _Sender(root, tracking_uri).send()
        except Exception as error:
            raise ServerError(f"the MLflow server did not take the runs: {root_cause(error)}") from error


def _expect_answer(tracking_uri: str) -> None:
    """Asks for next to nothing, in a thread: looking up a name knows no timeout."""
    failures: list[Exception] = []
    answered = threading.Event()

    def ask() -> None:
        try:
            MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001  # raised again below
            failures.append(error)
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    if not answered.wait(_FIRST_ANSWER_SECONDS):
        raise TimeoutError(f"no answer within {_FIRST_ANSWER_SECONDS} s")
    if failures:
        raise failures[0]


def _experiment(client: MlflowClient, name: str, tracking_uri: str) -> str:
    """The id of an experiment; a new one of a store in a file keeps its artefacts beside the file.

    By default they would go to the current directory. A server knows its own place for them.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    file = Path(tracking_uri.removeprefix(_SQLITE)) if tracking_uri.startswith(_SQLITE) else None
    location = None if file is None else (file.resolve().parent / "mlruns" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


class _Local:
    """The store beside the bundles."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._uri = local_store(root)
        self.client = MlflowClient(tracking_uri=self._uri)

    def write(self, record: RunRecord, *, unsent: bool, parent: str | None = None) -> None:
        tags = dict(record.tags)
        if parent is not None:
            tags[_PARENT_TAG] = parent
        run_id = self.client.create_run(
            _experiment(self.client, record.experiment, self._uri), run_name=record.name, tags=tags
        ).info.run_id
        self.client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in record.parameters.items()],
            metrics=[Metric(name, value, 0, 0) for name, value in record.metrics.items()],
        )
        for path in record.artifacts:
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path))
            else:
                self.client.log_artifact(run_id, str(path))
        if record.bundle is not None:
            self.client.log_artifacts(run_id, str(record.bundle), BUNDLE_ARTIFACT)
        for nested in record.nested:
            self.write(nested, unsent=unsent, parent=run_id)
        if unsent:
            self.client.set_tag(run_id, _UNSENT_TAG, "true")
        self.client.set_terminated(run_id)
        if record.bundle is not None:
            Registry(self._uri).register(run_id, _version_tags(record.tags))

    def unsent(self) -> list[Run]:
        """Ended runs that no server has, parents before what is nested in them."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        condition = f"tags.`{_UNSENT_TAG}` = 'true' and attributes.status = 'FINISHED'"
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                experiments, condition, order_by=["attributes.start_time ASC"], page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return sorted(found, key=lambda run: (_PARENT_TAG in run.data.tags, run.info.start_time))


class _Sender:
    """Copies runs from the local store to a server."""

    def __init__(self, root: Path, tracking_uri: str) -> None:
        self._local = _Local(root)
        self._local_candidate = Registry(local_store(root)).aliased(CANDIDATE)
        self._tracking_uri = tracking_uri
        self._registry = Registry(tracking_uri)
        self._server = self._registry.client

    def send(self) -> int:
        runs = self._local.unsent()
        for run in runs:
            self._send(run)
            self._local.client.delete_tag(run.info.run_id, _UNSENT_TAG)
        return len(runs)

    def _send(self, run: Run) -> None:
        name = self._local.client.get_experiment(run.info.experiment_id).name
        experiment = _experiment(self._server, name, self._tracking_uri)
        run_id = self._begun(run, experiment) or self._begin(run, experiment)
        self._server.log_batch(
            run_id,
            params=[Param(key, value) for key, value in run.data.params.items()],
            metrics=[Metric(key, value, 0, 0) for key, value in run.data.metrics.items()],
            tags=[RunTag(key, value) for key, value in run.data.tags.items() if key not in _SOURCE_TAGS],
        )
        if self._local.client.list_artifacts(run.info.run_id):
            folder = self._local.client.download_artifacts(run.info.run_id, "")
            self._server.log_artifacts(run_id, folder)
        self._server.set_terminated(run_id)
        candidate = self._local_candidate
        if candidate is not None and candidate.run_id == run.info.run_id:
            self._registry.register(run_id, _version_tags(run.data.tags))

    def _begin(self, run: Run, experiment: str) -> str:
        tags = {_ORIGIN_TAG: run.info.run_id}
        parent = run.data.tags.get(_PARENT_TAG)
        if parent is not None:
            sent = self._begun(self._local.client.get_run(parent), experiment)
            if sent is not None:
                tags[_PARENT_TAG] = sent
        begun = self._server.create_run(
            experiment, start_time=run.info.start_time, tags=tags, run_name=run.info.run_name
        )
        return str(begun.info.run_id)

    def _begun(self, run: Run, experiment: str) -> str | None:
        """The server's run of a local one, if it was begun before."""
        found = self._server.search_runs([experiment], f"tags.`{_ORIGIN_TAG}` = '{run.info.run_id}'")
        return str(found[0].info.run_id) if found else None


def _version_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: tags[name] for name in (BUNDLE_TAG, "dataset_tag") if name in tags}
