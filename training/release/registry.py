"""The model registry: versions of bundles, and which of them is candidate and which champion.

Needs no more than mlflow-skinny: `training.sync` runs beside servers, without the training stack.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import structlog
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient

from serving.bundle import SETTLE_SECONDS
from training.errors import TrainingError, root_cause
from training.release.local_store import StoreError, local_store, make_ready, sqlite_file

MODEL: Final = "movierec"
"""Name of the registered model."""
CANDIDATE: Final = "candidate"
"""Alias of the version that was published last."""
CHAMPION: Final = "champion"
"""Alias of the version that `training.sync` pulls."""
BUNDLE_TAG: Final = "bundle_id"
"""Tag of runs and of versions."""
PROMOTED_TAG: Final = "promoted_at"
"""Tag of a version that became the champion: when, in Unix seconds."""
PREVIOUS_TAG: Final = "previous_bundle_id"
"""Tag of a version that became the champion: the bundle that was the champion before."""
PUBLISHED_TAG: Final = "published_at"
"""Tag of a version: when its bundle was published, in Unix seconds. It may be registered much later."""
BUNDLE_ARTIFACT: Final = "bundle"
"""Folder of a run's artefacts that holds the bundle."""

_Found = TypeVar("_Found")

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class RegistryError(TrainingError):
    """The registry does not hold what was asked for, or does not answer. The message says which."""


class NothingRecordedError(RegistryError):
    """There is no local store: nothing was published beside it, and there is no champion."""


def require_tracking_uri(uri: str) -> str:
    """The URI; refuses what MLflow would take for a path, or what has no place for the artefacts.

    Raises:
        ValueError: the message says what a tracking URI is, and does not quote it: it may hold a password.
    """
    try:
        parts = urlsplit(uri)
        is_server = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not any(map(str.isspace, uri))  # urllib takes them out in silence
        )
    except ValueError:  # the port is no number
        is_server = False
    if not is_server and sqlite_file(uri) in {None, Path()}:
        raise ValueError(
            "MLFLOW_TRACKING_URI or --tracking-uri must begin with http:// or https:// and name a host, or "
            "with sqlite:/// and name a file, such as http://localhost:5000"
        )
    return uri


@contextmanager
def limited_requests(*, seconds: int) -> Iterator[None]:
    """Requests to an MLflow server fail after `seconds` without an answer, at once and without retries.

    By default a server that is down costs 247 s.
    """
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Registry:
    """Versions of the model in one MLflow store, that of a server or an SQLite file."""

    def __init__(self, tracking_uri: str) -> None:
        self.client = MlflowClient(tracking_uri=tracking_uri)

    @classmethod
    def open(cls, root: Path, tracking_uri: str | None) -> "Registry":
        """The registry of a server, or that of a file; None: of the one beside the bundles of a root.

        Raises:
            NothingRecordedError: there is no such file.
            RegistryError: it cannot be opened.
        """
        uri = tracking_uri or local_store(root)
        file = sqlite_file(uri)
        if file is not None and not file.exists():
            raise NothingRecordedError(
                f"no run was recorded in {file}: nothing was published here yet, or the runs are on a server "
                "that MLFLOW_TRACKING_URI does not name"
            )
        try:
            make_ready(uri)
            return cls(uri)
        except StoreError as error:
            raise RegistryError(str(error)) from error
        except MlflowException as error:
            raise RegistryError(f"the registry cannot be opened: {root_cause(error)}") from error

    def register(self, run_id: str, tags: Mapping[str, str]) -> str:
        """Registers the bundle among a run's artefacts, once; the candidate is what was published last.

        The tags of the version, which is returned, have `bundle_id` and `published_at` among them.
        """
        known = {model.name for model in self.client.search_registered_models(f"name = '{MODEL}'")}
        if MODEL not in known:
            self.client.create_registered_model(MODEL)
        version = self.version_of_run(run_id)
        if version is None:
            uri = self.client.get_run(run_id).info.artifact_uri
            version = self.client.create_model_version(
                MODEL,
                source=f"{uri}/{BUNDLE_ARTIFACT}",
                run_id=run_id,
                tags=dict(tags),
                await_creation_for=0,
            )
        candidate = self.aliased(CANDIDATE)
        # What is registered late, as the store or the server was away, takes nothing from what came after it.
        if candidate is None or published_at(candidate) <= published_at(version):
            self.client.set_registered_model_alias(MODEL, CANDIDATE, version.version)
        return str(version.version)

    def aliased(self, alias: str) -> ModelVersion | None:
        """The version of an alias; None if it has none."""
        try:
            return self.client.get_model_version_by_alias(MODEL, alias)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise

    def promote(self, version: ModelVersion) -> tuple[str, str]:
        """Makes a version the champion.

        Returns:
            Version and bundle_id of the champion.

        Raises:
            RegistryError: it was registered by hand, and names no bundle.
        """
        if BUNDLE_TAG not in version.tags:
            raise RegistryError(
                f"version {version.version} has no tag {BUNDLE_TAG}: it was registered by hand"
            )
        for name, value in self._promotion(str(version.tags[BUNDLE_TAG])).items():
            self.client.set_model_version_tag(MODEL, version.version, name, value)
        self.client.set_registered_model_alias(
            MODEL, CHAMPION, version.version
        )  # last: tags are read with it
        return str(version.version), str(version.tags[BUNDLE_TAG])

    def seconds_to_settle(self, version: ModelVersion, *, now: float) -> float:
        """How long servers still take to follow the last promotion, before that of a version may come.

        They hold two bundles, which may change places at any time; a third has to wait. `now` is in Unix
        seconds.
        """
        champion = self.aliased(CHAMPION)
        promoted = None if champion is None else promoted_at(champion)
        if champion is None or promoted is None or PREVIOUS_TAG not in champion.tags:
            return 0.0
        held = {champion.tags.get(BUNDLE_TAG), champion.tags[PREVIOUS_TAG]}
        if version.tags.get(BUNDLE_TAG) in held:
            return 0.0
        return min(max(promoted + SETTLE_SECONDS - now, 0.0), SETTLE_SECONDS)

    def previous(self) -> str:
        """The bundle that was the champion before this one.

        Raises:
            RegistryError: there was none, or the champion was made by hand.
        """
        champion = self.aliased(CHAMPION)
        if champion is None or PREVIOUS_TAG not in champion.tags:
            raise RegistryError("the registry knows no champion before this one")
        return str(champion.tags[PREVIOUS_TAG])

    def version_of(self, bundle_id: str) -> ModelVersion:
        """The latest version that holds a bundle.

        Raises:
            RegistryError: there is none.
        """
        versions = [v for v in self._versions() if v.tags.get(BUNDLE_TAG) == bundle_id]
        if not versions:
            raise RegistryError(f"no version holds bundle {bundle_id}")
        return max(versions, key=lambda v: int(v.version))

    def version_of_run(self, run_id: str) -> ModelVersion | None:
        """The version that holds the bundle of a run; None if it was not registered."""
        versions = self._versions(f"run_id = '{run_id}'")
        return versions[0] if versions else None

    def holds(self, bundle_id: str) -> bool:
        """Whether some version holds a bundle."""
        return any(version.tags.get(BUNDLE_TAG) == bundle_id for version in self._versions())

    def _promotion(self, bundle_id: str) -> dict[str, str]:
        """Tags that let every server see one promotion, with one time and one bundle before it."""
        champion = self.aliased(CHAMPION)
        tags = {} if champion is None else champion.tags
        at, previous = None, tags.get(BUNDLE_TAG)
        if champion is not None and previous == bundle_id:  # nothing changes for servers
            at, previous = promoted_at(champion), tags.get(PREVIOUS_TAG)
        promotion = {PROMOTED_TAG: str(time.time() if at is None else at)}
        return promotion if previous is None else promotion | {PREVIOUS_TAG: previous}

    def _versions(self, condition: str = "") -> list[ModelVersion]:
        where = f"name = '{MODEL}'" + (f" and {condition}" if condition else "")
        return all_pages(partial(self.client.search_model_versions, where))


def all_pages(search: Callable[..., PagedList[_Found]]) -> list[_Found]:
    """What a search of MLflow finds, page by page: it takes a `page_token`."""
    found: list[_Found] = []
    token: str | None = None
    while True:
        page = search(page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def published_at(version: ModelVersion) -> float:
    """When the bundle of a version was published, in Unix seconds; by hand: when it was registered."""
    seconds = _seconds(version, PUBLISHED_TAG)
    return version.creation_timestamp / 1_000 if seconds is None else seconds


def promoted_at(version: ModelVersion) -> float | None:
    """When a version became the champion, in Unix seconds; None: the alias was set by hand."""
    return _seconds(version, PROMOTED_TAG)


def _seconds(version: ModelVersion, tag: str) -> float | None:
    """A time among the tags, which anybody may write; None, and a warning, for what is no finite number."""
    text = version.tags.get(tag)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds):
        return seconds
    _logger.warning("tag ignored: it must be Unix seconds", version=version.version, tag=tag, value=text)
    return None
