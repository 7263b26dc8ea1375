"""Whether the candidate is what was published last, and what is served while it is the champion."""

from pathlib import Path
from typing import Final

from mlflow.entities.model_registry import ModelVersion

from serving.bundle.store import BundleError, BundleStore, Pointer
from training.release.local_store import local_store, sqlite_file
from training.release.registry import BUNDLE_TAG, CANDIDATE, Registry, RegistryError, published_at
from training.release.run_record import kept_keys, read_kept
from training.release.tracking import UNSENT_TAG

_SYNC_RUNS: Final = "`python -m training sync-runs`"


def published_last(root: Path, registry: Registry, tracking_uri: str | None) -> ModelVersion:
    """The candidate, which must not be older than what was published from a folder.

    Args:
        root: of the bundles; it may hold none, where people promote on another machine.
        registry: names the candidate.
        tracking_uri: of the registry; None: it is the one of the folder.

    Raises:
        KeptRecordError: what was published last cannot be told.
        RegistryError: there is no candidate, or it is another bundle; the message says why and what is to
            be done.
    """
    candidate = registry.aliased(CANDIDATE)
    local = registry if tracking_uri is None else _local(root)
    missing = (
        _unrecorded(root, candidate)
        or (None if local is None or local is registry else _missing_on_server(local, registry, candidate))
        or _unknown(root, registry, local)
    )
    if missing is not None:
        bundle_id, why = missing
        way = (
            ""
            if candidate is None
            else f". `--bundle-id {candidate.tags[BUNDLE_TAG]}` takes the candidate as it is"
        )
        raise RegistryError(f"bundle {bundle_id} was published last in {root}, but {why}{way}")
    if candidate is None:
        raise RegistryError("no version is the candidate: nothing was published here yet")
    return candidate


def served(root: Path, bundle_id: str) -> str:
    """One line: what a folder says to its servers, now that a bundle is the champion."""
    sync = "python -m training.sync --bundle-root"
    pointer = _pointer(root)
    if pointer is None:
        return f"Servers take it from their folder once `{sync} FOLDER` has brought it down there"
    if pointer.bundle_id == bundle_id:
        return f"{root} serves it; `{sync} FOLDER` brings it down to others"
    return f"{root} still serves bundle {pointer.bundle_id}: `{sync} {root}` brings the champion down"


def _unrecorded(root: Path, candidate: ModelVersion | None) -> tuple[str, str] | None:
    for key in reversed(kept_keys(root)):
        kept = read_kept(root, key)
        if candidate is not None and kept.made_at <= published_at(candidate):
            return None
        if kept.record.bundle is not None:
            return kept.record.bundle.name, f"its run is not recorded yet: {_SYNC_RUNS} does it"
    return None


def _missing_on_server(
    local: Registry, registry: Registry, candidate: ModelVersion | None
) -> tuple[str, str] | None:
    last = local.aliased(CANDIDATE)
    if last is None or (candidate is not None and published_at(last) <= published_at(candidate)):
        return None
    bundle_id = str(last.tags[BUNDLE_TAG])
    if UNSENT_TAG in local.client.get_run(str(last.run_id)).data.tags:
        return bundle_id, f"the server does not have its run yet: {_SYNC_RUNS} sends it"
    if registry.holds(bundle_id):
        return None
    return bundle_id, "its job was not told of this server: train again with MLFLOW_TRACKING_URI"


def _unknown(root: Path, registry: Registry, local: Registry | None) -> tuple[str, str] | None:
    """What is served and was never registered: its job was killed as it ended."""
    pointer = _pointer(root)
    if pointer is None or registry.holds(pointer.bundle_id):
        return None
    if local is not None and local.holds(pointer.bundle_id):
        return None
    return pointer.bundle_id, "its run was never recorded: train again, the same data give the same bundle"


def _local(root: Path) -> Registry | None:
    file = sqlite_file(local_store(root))
    return Registry.open(root, None) if file is not None and file.exists() else None


def _pointer(root: Path) -> Pointer | None:
    try:
        return BundleStore(root).pointer()
    except BundleError:
        return None
