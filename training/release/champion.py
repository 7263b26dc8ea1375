"""Bringing the champion of the registry down into a folder that servers read."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from serving.bundle.manifest import MANIFEST_NAME, FileRecord
from serving.bundle.signature import MAX_SIGNATURE_BYTES, SIGNATURE_NAME
from serving.bundle.store import MAX_MANIFEST_BYTES, BundleError, BundleStore
from training.errors import root_cause
from training.release.registry import (
    BUNDLE_ARTIFACT,
    BUNDLE_TAG,
    CHAMPION,
    PREVIOUS_TAG,
    Registry,
    RegistryError,
    promoted_at,
)
from training.release.roll_out import roll_out

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


def pull_champion(
    registry: Registry, store: BundleStore, *, settle_seconds: float, wait: Callable[[float], None]
) -> str | None:
    """Downloads the champion's bundle unless it is there and whole, checks every byte, and moves the pointer.

    The pointer says what the registry says, time of the promotion and previous bundle included: servers that
    each have a folder of their own follow one order of roll-out, also those that start in the middle of it.
    The caller holds the lock of the store's root; `settle_seconds` and `wait` are those of `roll_out`.

    Returns:
        The bundle_id that came or that the pointer was moved to; None if nothing was to be done.

    Raises:
        RegistryError: there is no champion, or the registry does not answer.
        BundleError: what came is not what was published.
        OSError: there is too little space.
    """
    try:
        version = registry.aliased(CHAMPION)
        if version is None:
            raise RegistryError("no version is the champion: `python -m training promote` makes one")
        bundle_id = version.tags.get(BUNDLE_TAG, "")
        is_whole = store.is_whole(bundle_id)
        if is_whole and _current(store) == bundle_id:
            return None
        if not is_whole:
            _download(registry, version, store)
        previous = _pull_previous(registry, version, store)
    except MlflowException as error:
        raise RegistryError(f"the registry does not answer: {root_cause(error)}") from error
    roll_out(
        store,
        bundle_id,
        settle_seconds=settle_seconds,
        wait=wait,
        published_at=promoted_at(version),  # None, which is now, for an alias that was set by hand
        previous=previous,
    )
    return bundle_id


def _pull_previous(registry: Registry, version: ModelVersion, store: BundleStore) -> str | None:
    """The bundle that was the champion before; None if there is none to be had, which stops nobody."""
    previous = version.tags.get(PREVIOUS_TAG)
    if previous is None:
        return None
    try:
        if not store.is_whole(previous):
            _download(registry, registry.version_of(previous), store)
    except (BundleError, MlflowException, OSError, RegistryError) as error:
        _logger.warning("previous bundle not pulled", bundle_id=previous, error=root_cause(error))
        return None
    return str(previous)


def _download(registry: Registry, version: ModelVersion, store: BundleStore) -> None:
    """The manifest, and what it lists: not what is for people, nor what somebody has laid beside it.

    Files with equal contents are one, and hard links, as they were when published.
    """
    with store.staging() as staging:

        def download(path: str, size: int) -> None:
            target = staging / path
            target.parent.mkdir(exist_ok=True)
            try:
                with _files_of_at_most(size + 1):
                    registry.client.download_artifacts(
                        str(version.run_id), f"{BUNDLE_ARTIFACT}/{path}", str(target.parent)
                    )
            finally:
                if target.exists() and target.stat().st_size > size:
                    raise BundleError(f"version {version.version}: {path} has more than {size} bytes")

        download(MANIFEST_NAME, MAX_MANIFEST_BYTES)
        if store.trusted is not None:
            there = registry.client.list_artifacts(str(version.run_id), BUNDLE_ARTIFACT)
            if f"{BUNDLE_ARTIFACT}/{SIGNATURE_NAME}" not in {one.path for one in there}:
                raise BundleError(f"version {version.version}: the bundle has no {SIGNATURE_NAME}")
            download(SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
        files = store.read_manifest(staging).files_for(store.user_shard, store.needed_folder)
        first_of: dict[FileRecord, str] = {}
        for path, record in files.items():
            first_of.setdefault(record, path)
        store.require_space(sum(record.size for record in first_of))
        for path, record in files.items():
            if first_of[record] == path:
                download(path, record.size)
            else:
                (staging / path).parent.mkdir(exist_ok=True)
                os.link(staging / first_of[record], staging / path)
        manifest = store.adopt(staging)
    if manifest.bundle_id != version.tags[BUNDLE_TAG]:
        raise BundleError(
            f"version {version.version} holds bundle {manifest.bundle_id}, not the one it names"
        )


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """While the block runs, no file grows beyond `size` bytes: MLflow stores all that a registry sends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _current(store: BundleStore) -> str | None:
    try:
        return store.pointer().bundle_id
    except BundleError:
        return None
