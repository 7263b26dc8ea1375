"""Bringing the champion of the registry down into a folder that servers read."""

import time
from pathlib import Path

import structlog
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from serving.bundle.manifest import MANIFEST_NAME
from serving.bundle.store import SERVED_FOLDERS, BundleError, BundleStore
from training.registry import (
    BUNDLE_ARTIFACT,
    BUNDLE_TAG,
    CHAMPION,
    PREVIOUS_TAG,
    PROMOTED_TAG,
    Registry,
    RegistryError,
    root_cause,
)

_logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def bring_down(registry: Registry, root: Path) -> str | None:
    """Downloads the champion's bundle unless it is there, checks every byte, and moves the pointer.

    The pointer says what the registry says, time of the promotion and previous bundle included: servers that
    each have a folder of their own follow one order of roll-out, also those that start in the middle of it.

    Args:
        registry: names the champion.
        root: of the bundles. The caller holds its lock.

    Returns:
        The bundle_id that the pointer was moved to; None if it was there already.

    Raises:
        RegistryError: there is no champion, or the registry does not answer.
        BundleError: what came is not what was published.
    """
    store = BundleStore(root)
    try:
        version = registry.aliased(CHAMPION)
        if version is None:
            raise RegistryError("no version is the champion: `python -m training promote` makes one")
        bundle_id = version.tags.get(BUNDLE_TAG, "")
        path = store.path(bundle_id)
        if _current(store) == bundle_id:
            return None
        if not path.exists():
            _download(registry, version, store)
        previous = _bring_down_previous(registry, version, store)
    except MlflowException as error:
        raise RegistryError(f"the registry does not answer: {root_cause(error)}") from error
    store.point_to(bundle_id, published_at=_promoted_at(version), previous=previous)
    return bundle_id


def _bring_down_previous(registry: Registry, version: ModelVersion, store: BundleStore) -> str | None:
    """The bundle that was the champion before; None if there is none to be had, which stops nobody."""
    previous = version.tags.get(PREVIOUS_TAG)
    if previous is None:
        return None
    try:
        if not store.path(previous).exists():
            _download(registry, registry.version_of(previous), store)
    except (BundleError, MlflowException, RegistryError) as error:
        _logger.warning("previous bundle not brought down", bundle_id=previous, error=root_cause(error))
        return None
    return str(previous)


def _promoted_at(version: ModelVersion) -> float:
    try:
        return float(version.tags[PROMOTED_TAG])
    except (KeyError, ValueError):  # the alias was set by hand
        return time.time()


def _download(registry: Registry, version: ModelVersion, store: BundleStore) -> None:
    """Only what servers load, and the manifest: not what is for people."""
    with store.staging() as staging:
        for name in (*SERVED_FOLDERS, MANIFEST_NAME):
            registry.client.download_artifacts(str(version.run_id), f"{BUNDLE_ARTIFACT}/{name}", str(staging))
        manifest = store.adopt(staging)
    if manifest.bundle_id != version.tags[BUNDLE_TAG]:
        raise BundleError(
            f"version {version.version} holds bundle {manifest.bundle_id}, not the one it names"
        )


def _current(store: BundleStore) -> str | None:
    try:
        return store.pointer().bundle_id
    except BundleError:
        return None
