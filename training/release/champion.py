"""Bringing the champion of the registry down into a folder that servers read."""

import time
from collections.abc import Callable
from pathlib import Path

import structlog
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from serving.bundle.manifest import MANIFEST_NAME, Manifest
from serving.bundle.store import SERVED_FOLDERS, BundleError, BundleStore
from training.release.registry import (
    BUNDLE_ARTIFACT,
    BUNDLE_TAG,
    CHAMPION,
    PREVIOUS_TAG,
    PROMOTED_TAG,
    Registry,
    RegistryError,
    root_cause,
)
from training.release.roll_out import roll_out

_logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def bring_down(
    registry: Registry, root: Path, *, settle_seconds: float, wait: Callable[[float], None]
) -> str | None:
    """Downloads the champion's bundle unless it is there, checks every byte, and moves the pointer.

    The pointer says what the registry says, time of the promotion and previous bundle included: servers that
    each have a folder of their own follow one order of roll-out, also those that start in the middle of it.

    Args:
        registry: names the champion.
        root: of the bundles. The caller holds its lock.
        settle_seconds: how long servers take to follow the pointer; not less than their settle delay.
        wait: called with the seconds that are left of that.

    Returns:
        The bundle_id that the pointer was moved to; None if it was there already.

    Raises:
        RegistryError: there is no champion, or the registry does not answer.
        BundleError: what came is not what was published.
        OSError: there is too little space.
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
    roll_out(
        store,
        bundle_id,
        settle_seconds=settle_seconds,
        wait=wait,
        published_at=_promoted_at(version),
        previous=previous,
    )
    return bundle_id


def _bring_down_previous(registry: Registry, version: ModelVersion, store: BundleStore) -> str | None:
    """The bundle that was the champion before; None if there is none to be had, which stops nobody."""
    previous = version.tags.get(PREVIOUS_TAG)
    if previous is None:
        return None
    try:
        if not store.path(previous).exists():
            _download(registry, registry.version_of(previous), store)
    except (BundleError, MlflowException, OSError, RegistryError) as error:
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

        def download(name: str) -> None:
            registry.client.download_artifacts(str(version.run_id), f"{BUNDLE_ARTIFACT}/{name}", str(staging))

        download(MANIFEST_NAME)
        store.require_space(_size(staging / MANIFEST_NAME))
        for name in SERVED_FOLDERS:
            download(name)
        manifest = store.adopt(staging)
    if manifest.bundle_id != version.tags[BUNDLE_TAG]:
        raise BundleError(
            f"version {version.version} holds bundle {manifest.bundle_id}, not the one it names"
        )


def _size(path: Path) -> int:
    """Bytes of the files that a manifest names."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{MANIFEST_NAME} of the champion is unreadable") from error
    return sum(record.size for record in manifest.files.values())


def _current(store: BundleStore) -> str | None:
    try:
        return store.pointer().bundle_id
    except BundleError:
        return None
