"""Runs in MLflow: always in a store beside the bundles, and from there to a server if there is one.

A training is worth more than its record: whatever goes wrong here is logged, and the job goes on. Nothing is
lost by that: a record stays in the folder until the store holds it, and a run in the store is marked until
the server has it. The next job, or `sync-runs`, does what was left. A server that is down or silent costs a
few seconds, once.
"""

import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.tracking import MlflowClient

from training.errors import TrainingError, root_cause
from training.release.local_store import StoreError, artifact_location, local_store, make_ready, sqlite_file
from training.release.registry import (
    BUNDLE_ARTIFACT,
    BUNDLE_TAG,
    PUBLISHED_TAG,
    Registry,
    all_pages,
    limited_requests,
    published_at,
)
from training.release.run_record import RunRecord, Unrecorded, keep, kept_keys, read_kept, remove_kept

UNSENT_TAG: Final = "movierec.unsent"
"""Tag of a run of the local store that a server is to have, and does not have yet."""
_PARENT_TAG: Final = "mlflow.parentRunId"
_RECORD_TAG: Final = "movierec.record"
_ORIGIN_TAG: Final = "movierec.origin"
_SOURCE_TAGS: Final = (
    *(UNSENT_TAG, _RECORD_TAG, _PARENT_TAG),
    *("mlflow.user", "mlflow.source.name", "mlflow.source.type"),
)
_UNSENT: Final = f"tags.`{UNSENT_TAG}` = 'true' and attributes.status = 'FINISHED'"

_FIRST_ANSWER_SECONDS: Final = 2.5
_ANSWER_SECONDS: Final = 2
_PATIENT_SECONDS: Final = 60

_logger = structlog.get_logger(__name__)


class RecordError(TrainingError):
    """The local store did not take all records. The message says why."""


class ServerError(TrainingError):
    """The server did not take the runs. The message says why."""


def track(root: Path, record: RunRecord, tracking_uri: str | None) -> None:
    """Writes a run into the local store, and to the server if there is one, with what was left before."""
    try:
        keep(root, record, unsent=tracking_uri is not None)
    except OSError as error:  # a full disk
        _logger.warning("run not tracked", experiment=record.experiment, error=str(error))
        return
    record_and_send(root, tracking_uri)


def record_and_send(root: Path, tracking_uri: str | None) -> None:
    """Writes the records that are kept, and sends all that the server does not have yet, if there is one."""
    try:
        write_records(root)
    except RecordError as error:
        _logger.warning("run not recorded yet; the next job or sync-runs does it", error=str(error))
    if tracking_uri is not None:
        try:
            send_runs(root, tracking_uri, patient=False)
        except ServerError as error:
            _logger.warning("run kept locally; the next job or sync-runs sends it", error=str(error))


def write_records(root: Path) -> int:
    """Writes all records that are kept in a folder into its store, the oldest first.

    What was written in part, as a job was killed, is completed. One that cannot be written stops none of the
    others.

    Returns:
        How many were written.

    Raises:
        RecordError: some were not.
    """
    keys = kept_keys(root)
    failures: list[Exception] = []
    for key in keys:
        try:
            _Local(root).write(read_kept(root, key))
            remove_kept(root, key)
        except StoreError as error:  # which is so for all of them
            raise RecordError(str(error)) from error
        except Exception as error:  # noqa: BLE001  # a damaged database, a library's fault
            failures.append(error)
    if failures:
        cause = root_cause(failures[0])
        raise RecordError(
            f"MLflow's store in {root} did not take {len(failures)} of {len(keys)} runs: {cause}"
        )
    return len(keys)


def send_runs(root: Path, tracking_uri: str, *, patient: bool) -> int:
    """Sends runs that a server was meant to have and does not have yet, the oldest first.

    What was sent in part, as a job was killed, is completed. One that the server refuses stops none of the
    others. Without patience for slow answers, the first silence ends it.

    Returns:
        How many runs were sent.

    Raises:
        ServerError: the server is down, silent, or refuses some.
    """
    with limited_requests(seconds=_PATIENT_SECONDS if patient else _ANSWER_SECONDS):
        try:
            if not patient:
                _expect_answer(tracking_uri)
            sender = _Sender(root, tracking_uri)
            failures = sender.send()
        except Exception as error:
            raise ServerError(f"the MLflow server did not take the runs: {root_cause(error)}") from error
    if failures:
        cause = root_cause(failures[0])
        raise ServerError(f"the MLflow server took {sender.sent} runs, but not {len(failures)}: {cause}")
    return sender.sent


def _expect_answer(tracking_uri: str) -> None:
    """Asks a server for next to nothing, in a thread: looking up a name knows no timeout.

    A file answers by itself; while MLflow makes one, no thread may be left behind.
    """
    if sqlite_file(tracking_uri) is not None:
        return
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
    """The id of an experiment, restored if somebody deleted it.

    One of a store in a file keeps its artefacts beside the file; a server knows its own place for them.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    file = sqlite_file(tracking_uri)
    location = None if file is None else artifact_location(file, name)
    return str(client.create_experiment(name, artifact_location=location))


class _Local:
    """The store beside the bundles."""

    def __init__(self, root: Path) -> None:
        self._uri = local_store(root)
        make_ready(self._uri)
        self.registry = Registry(self._uri)
        self.client = self.registry.client

    def write(self, kept: Unrecorded) -> None:
        """Writes a run and those nested in it, and registers the bundle."""
        run_id = self._write(kept.record, kept.key, unsent=kept.unsent)
        if kept.record.bundle is not None:
            self.registry.register(run_id, _version_tags(kept.record.tags, kept.made_at))

    def _write(self, record: RunRecord, key: str, *, unsent: bool, parent: str | None = None) -> str:
        experiment = _experiment(self.client, record.experiment, self._uri)
        tags = {**record.tags, _RECORD_TAG: key}
        if parent is not None:
            tags[_PARENT_TAG] = parent
        begun = self.client.search_runs([experiment], f"tags.`{_RECORD_TAG}` = '{key}'")
        run = begun[0] if begun else self.client.create_run(experiment, run_name=record.name, tags=tags)
        run_id = str(run.info.run_id)
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
        for number, nested in enumerate(record.nested):
            self._write(nested, f"{key}/{number}", unsent=unsent, parent=run_id)
        if unsent:
            self.client.set_tag(run_id, UNSENT_TAG, "true")
        self.client.set_terminated(run_id)
        return run_id

    def unsent(self) -> list[Run]:
        """Ended runs that no server has, parents before what is nested in them."""
        for deleted in self.client.search_experiments(view_type=ViewType.DELETED_ONLY):
            if self.client.search_runs([deleted.experiment_id], _UNSENT, run_view_type=ViewType.DELETED_ONLY):
                self.client.restore_experiment(deleted.experiment_id)
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found = all_pages(partial(self.client.search_runs, experiments, _UNSENT))
        return sorted(found, key=lambda run: (_PARENT_TAG in run.data.tags, run.info.start_time))


class _Sender:
    """Copies runs from the local store to a server."""

    def __init__(self, root: Path, tracking_uri: str) -> None:
        make_ready(tracking_uri)
        self.sent = 0
        self._local = _Local(root)
        self._tracking_uri = tracking_uri
        self._registry = Registry(tracking_uri)
        self._server = self._registry.client

    def send(self) -> list[Exception]:
        """Sends what it can; returns what went wrong with the others."""
        failures: dict[str, Exception] = {}
        for run in self._local.unsent():
            if run.data.tags.get(_PARENT_TAG) in failures:  # or nobody would know where it belongs
                continue
            try:
                self._send(run)
                self._local.client.delete_tag(run.info.run_id, UNSENT_TAG)
                self.sent += 1
            except Exception as error:  # noqa: BLE001  # whatever the server has against this one
                _expect_answer(self._tracking_uri)  # or there is no use in going on
                failures[run.info.run_id] = error
        return list(failures.values())

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
        version = self._local.registry.version_of_run(run.info.run_id)
        if version is not None:
            self._registry.register(run_id, _version_tags(version.tags, published_at(version)))

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


def _version_tags(tags: Mapping[str, str], published: float) -> dict[str, str]:
    kept = {name: tags[name] for name in (BUNDLE_TAG, "dataset_tag") if name in tags}
    return {**kept, PUBLISHED_TAG: str(published)}
