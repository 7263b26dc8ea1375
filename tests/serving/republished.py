"""Bundles that are whole, and not what was trained."""

import shutil
from collections.abc import Callable
from pathlib import Path

from serving.bundle.manifest import SERVED_FOLDERS, bundle_id_of
from serving.bundle.store import BundleStore, file_records


def republished(
    source: BundleStore, bundle_id: str, store: BundleStore, alter: Callable[[Path], None]
) -> str:
    """Publishes a bundle of `source` in `store` once more, altered, and does not point to it.

    Args:
        source: holds the bundle.
        bundle_id: of the bundle.
        store: takes the altered one.
        alter: changes files in a copy of the bundle's folder; its manifest is made of them afterwards.

    Returns:
        The id of the altered bundle.
    """
    with store.staging() as staging:
        for name in SERVED_FOLDERS:
            shutil.copytree(source.path(bundle_id) / name, staging / name)
        alter(staging)
        files = file_records(staging)
        manifest = source.manifest(bundle_id).model_copy(
            update={"files": files, "bundle_id": bundle_id_of(files)}
        )
        store.publish(staging, manifest)
    return manifest.bundle_id
