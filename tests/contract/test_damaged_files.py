"""Each process refuses a bundle of which any file that it serves from is damaged."""

import pytest

from serving.bundle.manifest import SERVED_FOLDERS
from serving.bundle.store import BundleError, BundleStore
from tests.faults.test_bundles import LOADERS


@pytest.mark.row(8, 51)
@pytest.mark.parametrize("folder", SERVED_FOLDERS)
def test_damaged_files_are_refused(own_bundle_root: BundleStore, folder: str) -> None:
    bundle_id = own_bundle_root.pointer().bundle_id
    for path in sorted((own_bundle_root.path(bundle_id) / folder).iterdir()):
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(BundleError, match=path.name):
            LOADERS[folder](own_bundle_root, bundle_id)
        path.write_bytes(good)
    LOADERS[folder](own_bundle_root, bundle_id)
