"""A bundle is loaded in a process of its own before a server takes it: whatever it does, the server lives."""

import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from ranking_service.ranking import Ranker
from serving.bundle.store import BundleError, BundleStore
from serving.bundle.trial import tried_first, try_loading
from tests.conftest import Trained
from tests.serving import loaders
from tests.serving.republished import republished

DAMAGES: Final = int(os.environ.get("MOVIEREC_TEST_DAMAGES", "1000"))
AT_ONCE: Final = 2


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


@pytest.mark.row(6)
def test_a_model_that_is_none_is_a_refusal(trained: Trained, tmp_path: Path) -> None:
    """In the server as well: what CatBoost makes of a damaged model can differ from process to process."""
    store = BundleStore(tmp_path)

    def damage(staging: Path) -> None:
        (staging / "ranking" / "ranker.cbm").write_bytes(b"no model")

    bundle_id = republished(BundleStore(trained.root), trained.bundle_id, store, damage)
    with pytest.raises(BundleError, match=rf"^bundle {bundle_id}: ranker\.cbm: .*"):
        Ranker.load(store, bundle_id)


@pytest.mark.row(6)
@pytest.mark.long
def test_damaged_models_with_valid_hashes_kill_nobody(
    trained: Trained, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """One in fifty ends the process that reads it. MOVIEREC_TEST_DAMAGES sets how many."""
    load = tried_first(Ranker.load)

    def outcome(seed: int) -> str:
        store = BundleStore(tmp_path / f"{seed % AT_ONCE}")
        bundle_id = publish_damaged(store, trained, random.Random(seed))  # noqa: S311
        try:
            load(store, bundle_id)
        except BundleError as error:
            return "died" if " ended in SIG" in str(error) else "refused"
        finally:
            shutil.rmtree(store.path(bundle_id))
        return "loaded"

    def outcomes(first: int) -> list[str]:
        return [outcome(seed) for seed in range(first, DAMAGES, AT_ONCE)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        counts = Counter(itertools.chain(*pool.map(outcomes, range(AT_ONCE))))
    record_property("requests", DAMAGES)
    for name, count in sorted(counts.items()):
        record_property(name, count)
    assert counts.total() == DAMAGES
    assert counts["refused"] > counts["loaded"]


def publish_damaged(store: BundleStore, trained: Trained, chance: random.Random) -> str:
    """A bundle whose model has some bytes of its own, and whose manifest says so."""

    def damage(staging: Path) -> None:
        model = staging / "ranking" / "ranker.cbm"
        content = bytearray(model.read_bytes())
        for place in chance.sample(range(len(content)), 8):
            content[place] = chance.randrange(256)
        model.write_bytes(content)

    return republished(BundleStore(trained.root), trained.bundle_id, store, damage)
