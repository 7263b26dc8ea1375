"""A bundle is loaded in a process of its own before a server takes it: whatever it does, the server lives."""

import os
import random
import shutil
from pathlib import Path

import pytest

from ranking_service.ranking import Ranker
from serving.bundle.manifest import SERVED_FOLDERS, Manifest, bundle_id_of
from serving.bundle.store import BundleError, BundleStore, file_records
from serving.bundle.trial import tried_first, try_loading
from tests.conftest import Trained
from tests.serving import loaders

DAMAGES = int(os.environ.get("MOVIEREC_TEST_DAMAGES", "0"))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the process of its own, too, which knows nothing of pytest's ways."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.row(6)
@pytest.mark.parametrize(
    ("loader", "error"),
    [
        ("dies", "bundle one: loading it ended in SIGSEGV"),
        ("refuses", "bundle one: not this one"),
        ("ends", "exit status 3"),
        ("absent", "AttributeError: module 'tests.serving.loaders' has no attribute 'absent'"),
    ],
)
def test_what_goes_wrong_is_a_refusal(tmp_path: Path, loader: str, error: str) -> None:
    with pytest.raises(BundleError, match=f"^{error}$"):
        try_loading([f"tests.serving.loaders:{loader}"], BundleStore(tmp_path), "one")


def test_what_does_not_end_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^bundle one: loading it did not end within 0\.1 s$"):
        try_loading(["tests.serving.loaders:hangs"], BundleStore(tmp_path), "one", seconds=0.1)


def test_the_loader_is_asked_once_the_trial_has_passed(tmp_path: Path) -> None:
    assert tried_first(loaders.fine)(BundleStore(tmp_path), "one") == "one"


@pytest.mark.skipif(not DAMAGES, reason="MOVIEREC_TEST_DAMAGES says how many: each takes seconds")
def test_damaged_models_with_valid_hashes_kill_nobody(trained: Trained, tmp_path: Path) -> None:
    """Row 6: one in fifty ends the process that reads it."""
    store = BundleStore(tmp_path / "bundles")
    load = tried_first(Ranker.load)
    chance = random.Random(0)  # noqa: S311
    outcomes: list[str] = []
    for _ in range(DAMAGES):
        bundle_id = publish_damaged(store, trained, chance)
        try:
            outcomes.append(load(store, bundle_id).bundle_id)
        except BundleError as error:
            outcomes.append(str(error))
        shutil.rmtree(store.path(bundle_id))
    assert len(outcomes) == DAMAGES


def publish_damaged(store: BundleStore, trained: Trained, chance: random.Random) -> str:
    """A bundle whose model has some bytes of its own, and whose manifest says so."""
    source = BundleStore(trained.root)
    with store.staging() as staging:
        for name in SERVED_FOLDERS:
            shutil.copytree(source.path(trained.bundle_id) / name, staging / name)
        model = staging / "ranking" / "ranker.cbm"
        content = bytearray(model.read_bytes())
        for place in chance.sample(range(len(content)), 8):
            content[place] = chance.randrange(256)
        model.write_bytes(content)
        files = file_records(staging)
        manifest = source.manifest(trained.bundle_id).model_copy(
            update={"files": files, "bundle_id": bundle_id_of(files)}
        )
        store.publish(staging, Manifest.model_validate(manifest.model_dump()))
    return manifest.bundle_id
