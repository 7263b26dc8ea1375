"""Publishing and reading bundles: all of one or nothing, and nothing but what was published."""

import errno
import gc
import json
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from serving.bundle.factors import read_item_factors
from serving.bundle.manifest import (
    MANIFEST_NAME,
    SERVED_FOLDERS,
    FeatureRecord,
    Golden,
    GoldenCandidates,
    GoldenRanking,
    GoldenSimilar,
    Manifest,
    bundle_id_of,
)
from serving.bundle.ranker import RankerContent
from serving.bundle.store import BundleError, BundleStore, Pointer, file_records, write_arrays
from tests.conftest import Trained
from tests.serving.republished import republished

GOLDEN = Golden(
    candidate=GoldenCandidates(user_id=1, movie_ids=(), scores=()),
    ranking=GoldenRanking(user_id=1, movie_ids=(), retrieval_scores=(), scores=()),
    similarity=GoldenSimilar(movie_id=1, movie_ids=(), scores=()),
)


def fill(staging: Path, text: str) -> Manifest:
    """One file per folder."""
    for name in SERVED_FOLDERS:
        (staging / name).mkdir()
        (staging / name / "file").write_text(f"{text} of {name}")
    return manifest_of(staging)


def manifest_of(staging: Path) -> Manifest:
    files = file_records(staging)
    return Manifest(
        bundle_id=bundle_id_of(files),
        files=files,
        dataset_tag="tiny",
        features=FeatureRecord(groups=(), names=(), hash=""),
        n_candidates=300,
        recipe={},
        metrics={},
        libraries={},
        golden=GOLDEN,
    )


def publish(store: BundleStore, text: str, *, age: int = 0) -> str:
    """Publishes a bundle, as if `age` seconds ago, and does not point to it."""
    with store.staging() as staging:
        manifest = fill(staging, text)
        store.publish(staging, manifest)
    os.utime(store.path(manifest.bundle_id), (10**9 - age, 10**9 - age))
    return manifest.bundle_id


def bundles(store: BundleStore) -> set[str]:
    return {path.name for path in (store.root / "bundles").iterdir()}


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and times of all files."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "root")


# What is read


def test_a_ranker_of_other_features_is_refused(own_bundle_root: BundleStore) -> None:
    """A bundle that is whole, but was trained by a version whose features had other names."""

    def rename(staging: Path) -> None:
        features = staging / "ranking" / "features.json"
        features.write_text(json.dumps(json.loads(features.read_text()) | {"hash": "0" * 16}))

    other = republished(own_bundle_root, own_bundle_root.pointer().bundle_id, own_bundle_root, rename)
    with pytest.raises(BundleError, match="features are not those that this version computes"):
        RankerContent.read(own_bundle_root.folder(other, "ranking"))


def test_arrays_that_are_read_cannot_be_altered(trained: Trained) -> None:
    factors = read_item_factors(BundleStore(trained.root).folder(trained.bundle_id, "candidate"))
    with pytest.raises(ValueError, match="read-only"):
        factors[0, 0] = 1


def test_many_threads_read_arrays(trained: Trained) -> None:
    """Python 3.11 fails where two parse a header at once, which a collection in between makes likely."""
    folder = BundleStore(trained.root).folder(trained.bundle_id, "candidate")
    expected = read_item_factors(folder)

    def read_often(_: int) -> bool:
        return all(np.array_equal(read_item_factors(folder), expected) for _ in range(100))

    def yield_to_others(*_: object) -> None:
        time.sleep(0)

    thresholds = gc.get_threshold()
    gc.set_threshold(5)
    gc.callbacks.append(yield_to_others)
    try:
        with ThreadPoolExecutor(4) as readers:
            assert all(readers.map(read_often, range(4)))
    finally:
        gc.callbacks.remove(yield_to_others)
        gc.set_threshold(*thresholds)


@pytest.mark.row(50)
def test_no_pickle_is_written_or_loaded(store: BundleStore) -> None:
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        write_arrays(store.root / "objects.npz", a=objects)
    with store.staging() as staging:
        fill(staging, "one")
        np.savez(staging / "candidate" / "objects.npz", a=objects)
        store.publish(staging, manifest := manifest_of(staging))
    folder = store.folder(manifest.bundle_id, "candidate")
    with pytest.raises(ValueError, match="OBJECT array"):
        folder.arrays("objects.npz", "a")


# Damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    """To the very bytes that were published, outside of the bundle."""
    path.symlink_to(path.rename(path.with_name("aside")))


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    """That nobody ever writes to."""
    path.unlink()
    os.mkfifo(path)


DAMAGES = [flip, truncate, lengthen, empty, Path.unlink, link, make_folder, make_pipe]


@pytest.mark.row(51)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_file_is_refused(own_bundle_root: BundleStore, damage: Callable[[Path], None]) -> None:
    bundle_id = own_bundle_root.pointer().bundle_id
    manifest = own_bundle_root.manifest(bundle_id)
    assert len(manifest.files) > 15
    for path in manifest.files:
        name, _, file_name = path.partition("/")
        folder = own_bundle_root.folder(bundle_id, name)
        assert folder.read(file_name)
        damage(own_bundle_root.path(bundle_id) / path)
        with pytest.raises(BundleError, match=f"bundle {bundle_id}: .*{path}"):
            folder.read(file_name)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_replaced_when_it_is_published_again(
    store: BundleStore, damage: Callable[[Path], None]
) -> None:
    bundle_id = publish(store, "one")
    whole = snapshot(store.root)
    for name in ("ranking/file", MANIFEST_NAME):
        damage(store.path(bundle_id) / name)
        with pytest.raises(BundleError, match=f"bundle {bundle_id}"):
            store.point_to(bundle_id, published_at=0)
        assert publish(store, "one") == bundle_id
        assert {path: content for path, (content, _) in snapshot(store.root).items()} == {
            path: content for path, (content, _) in whole.items()
        }
        assert bundles(store) == {bundle_id}
    store.point_to(bundle_id, published_at=0)


@pytest.mark.parametrize(
    "instead", [Path.touch, lambda path: path.symlink_to(path.parent)], ids=["file", "link"]
)
def test_what_is_no_folder_is_replaced_too(store: BundleStore, instead: Callable[[Path], None]) -> None:
    bundle_id = publish(store, "one")
    shutil.rmtree(store.path(bundle_id))
    instead(store.path(bundle_id))
    publish(store, "one")
    store.verify(bundle_id)
    assert bundles(store) == {bundle_id}


def test_a_manifest_of_another_bundle_is_refused(store: BundleStore) -> None:
    one, other = publish(store, "one"), publish(store, "other")
    shutil.copy(store.path(one) / "manifest.json", store.path(other) / "manifest.json")
    with pytest.raises(BundleError, match="the manifest is that of another bundle"):
        store.folder(other, "candidate")


@pytest.mark.row(51)
def test_a_manifest_whose_files_were_swapped_is_refused(store: BundleStore) -> None:
    """Contents, hashes and sizes altered together: the id does not fit any more."""
    bundle_id = publish(store, "one")
    manifest = store.path(bundle_id) / "manifest.json"
    record = json.loads(manifest.read_text())
    record["files"]["candidate/file"] = record["files"]["ranking/file"]
    manifest.write_text(json.dumps(record))
    with pytest.raises(BundleError, match="the manifest is that of another bundle"):
        store.manifest(bundle_id)


@pytest.mark.parametrize(
    "change",
    [{"bundle_id": "../one"}, {"files": {}}, {"unheard": 1}, {"golden": None}, {"format_version": 2**63}],
    ids=str,
)
def test_a_manifest_of_another_form_is_refused(store: BundleStore, change: dict[str, object]) -> None:
    bundle_id = publish(store, "one")
    manifest = store.path(bundle_id) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(BundleError, match=f"bundle {bundle_id}: the manifest is"):
        store.manifest(bundle_id)


def test_a_bundle_of_another_format_is_refused_with_both_formats(store: BundleStore) -> None:
    bundle_id = publish(store, "one")
    manifest = store.path(bundle_id) / "manifest.json"
    change = {"format_version": 4, "unheard": 1, "golden": None}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(BundleError, match=r"its format_version is 4, and this process reads 3$"):
        store.manifest(bundle_id)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_manifest_holds_finite_numbers_only(store: BundleStore, value: float) -> None:
    bundle_id = publish(store, "one")
    fields = store.manifest(bundle_id).model_dump()
    path = store.path(bundle_id) / "manifest.json"
    for change in (
        {"metrics": {"als": {"ndcg_at_10": value}}},
        {"recipe": {"als_alpha": value}},
        {"golden": fields["golden"] | {"similarity": {"movie_id": 1, "movie_ids": [2], "scores": [value]}}},
    ):
        with pytest.raises(ValidationError, match="finite number"):
            Manifest.model_validate(fields | change)
        path.write_text(json.dumps(fields | change))  # as NaN, Infinity and -Infinity
        with pytest.raises(BundleError, match=f"bundle {bundle_id}: the manifest is unreadable"):
            store.manifest(bundle_id)


@pytest.mark.row(52)
@pytest.mark.parametrize(
    "path",
    [
        *("candidate/..", "candidate/../../../victim", "../candidate/file", "/etc/hostname", "exports/file"),
        *("candidate//file", "candidate/.hidden", "candidate/a/b", "candidate/", "candidate/file\n"),
        "candidate/" + "f" * 101,
    ],
)
def test_a_manifest_names_only_files_of_the_served_folders(store: BundleStore, path: str) -> None:
    """`sync` joins these names to a directory, and links one file to another."""
    victim = store.root / "victim"
    with store.staging() as staging:
        manifest = fill(staging, "one")
        files = {**manifest.files, path: manifest.files["candidate/file"]}
        record = manifest.model_dump() | {"files": files, "bundle_id": bundle_id_of(files)}
        for name, content in files.items():
            record["files"] = record["files"] | {name: content.model_dump()}
        (staging / MANIFEST_NAME).write_text(json.dumps(record))
        victim.write_text("one of candidate")  # the contents that the manifest tells
        before = victim.stat().st_ino
        with pytest.raises(BundleError, match="the manifest is unreadable: files: "):
            store.adopt(staging)
    assert victim.stat().st_ino == before


@pytest.mark.row(52)
@pytest.mark.parametrize("linked", ["bundle", "folder"])
def test_linked_folders_are_not_followed(store: BundleStore, linked: str) -> None:
    bundle_id = publish(store, "one")
    folder = store.folder(bundle_id, "candidate")
    path = store.path(bundle_id) if linked == "bundle" else store.path(bundle_id) / "candidate"
    path.symlink_to(path.rename(store.root / "elsewhere"))
    with pytest.raises(BundleError, match=f"bundle {bundle_id}: cannot read"):
        folder.read("file")


def test_only_files_of_the_manifest_are_read(store: BundleStore) -> None:
    bundle_id = publish(store, "one")
    (store.path(bundle_id) / "candidate" / "more").write_text("more")
    folder = store.folder(bundle_id, "candidate")
    for name in ("more", "../ranking/file", "../../../current", "/etc/hostname", ""):
        with pytest.raises(BundleError, match="has no"):
            folder.read(name)


@pytest.mark.row(52)
@pytest.mark.parametrize(
    "bundle_id",
    [
        *("", ".", "..", "../bundles/one", "/etc", "one/..", "one\0", "one\n", "%2e%2e", ".staging-1"),
        *("_one", "é", "1" * 65, "1" * 10_000),
    ],
    ids=lambda text: f"{text[:12]!r} of {len(text)}",
)
def test_what_is_no_bundle_id_is_refused(store: BundleStore, bundle_id: str) -> None:
    publish(store, "one")
    for act in (store.path, store.manifest, lambda one: store.point_to(one, published_at=0)):
        with pytest.raises(BundleError, match="a bundle id is 1 to 64 letters"):
            act(bundle_id)
    (store.root / "current").write_text(json.dumps({"bundle_id": bundle_id, "published_at": 0}))
    with pytest.raises(BundleError, match=r"the pointer .* is unreadable"):
        store.pointer()


@pytest.mark.parametrize("published_at", ["NaN", "Infinity", "-Infinity", "1e999", "null"])
def test_a_pointer_moves_at_a_finite_time(store: BundleStore, published_at: str) -> None:
    """Written as null, NaN would make the pointer unreadable to everybody."""
    bundle_id = publish(store, "one")
    store.point_to(bundle_id, published_at=1)
    with pytest.raises(ValidationError, match="published_at"):
        Pointer.model_validate_json(f'{{"bundle_id": "{bundle_id}", "published_at": {published_at}}}')
    other = publish(store, "other")
    if published_at != "null":
        with pytest.raises(ValidationError, match="finite number"):
            store.point_to(other, published_at=float(published_at))
    assert store.pointer().bundle_id == bundle_id


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff", b'{"bundle_id": "one"}', None], ids=repr)
def test_a_damaged_pointer_is_an_error(store: BundleStore, content: bytes | None) -> None:
    store.root.mkdir()
    current = store.root / "current"
    os.mkfifo(current) if content is None else current.write_bytes(content)
    with pytest.raises(BundleError, match="unreadable"):
        store.pointer()


# Publishing


def test_a_bundle_is_served_once_it_is_pointed_to(store: BundleStore) -> None:
    bundle_id = publish(store, "one")
    with pytest.raises(BundleError, match="no bundle is published in"):
        store.pointer()
    store.point_to(bundle_id, published_at=5)
    assert store.pointer().model_dump() == {"bundle_id": bundle_id, "previous": None, "published_at": 5}
    assert store.folder(bundle_id, "ranking").read("file") == b"one of ranking"


def test_whoever_follows_another_root_takes_its_previous_bundle(store: BundleStore) -> None:
    one, two, three = (publish(store, text) for text in ("one", "two", "three"))
    store.point_to(one, published_at=1)
    store.point_to(three, published_at=3, previous=two)  # `two` came and went unseen
    assert store.pointer().model_dump() == {"bundle_id": three, "previous": two, "published_at": 3}


def test_what_is_being_written_is_invisible(store: BundleStore) -> None:
    old = publish(store, "old")
    store.point_to(old, published_at=1)
    with store.staging() as staging:
        manifest = fill(staging, "new")
        assert store.pointer().bundle_id == old
        with pytest.raises(BundleError, match="cannot read"):
            store.manifest(manifest.bundle_id)
        with pytest.raises(BundleError, match="a bundle id is"):
            store.path(staging.name)
    assert bundles(store) == {old}


def test_what_a_killed_job_left_is_removed_by_the_next(store: BundleStore) -> None:
    rest = store.root / "bundles" / ".staging-1"
    (rest / "candidate").mkdir(parents=True)
    (rest / "candidate" / "half").touch()
    bundle_id = publish(store, "one")
    assert bundles(store) == {bundle_id}


class FullDisk:
    """Does what `genuine` does, but for one call."""

    def __init__(self, genuine: Callable[..., Any], fails_at: int) -> None:
        self.genuine = genuine
        self.left = fails_at

    def __call__(self, *arguments: Any) -> Any:
        """As the call that it stands in for."""
        self.left -= 1
        if self.left == -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.genuine(*arguments)


@pytest.mark.row(40)
def test_a_full_disk_at_any_moment_leaves_a_whole_bundle(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = publish(store, "old"), publish(BundleStore(store.root / "elsewhere"), "new")
    store.point_to(old, published_at=1)
    for moment in range(100):
        disk = FullDisk(os.fsync, fails_at=moment)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", disk)
            try:
                store.point_to(publish(store, "new"), published_at=2)
            except OSError:
                assert store.folder(store.pointer().bundle_id, "gateway").read("file")
                assert bundles(store) <= {old, new}
        if disk.left >= 0:
            break
    assert moment > 2 * len(SERVED_FOLDERS)  # each file and each folder is flushed
    assert (store.pointer().bundle_id, store.pointer().previous) == (new, old)


def test_a_copy_is_checked_without_being_held(store: BundleStore) -> None:
    """Beside a server, `sync` has less memory than a large bundle's files."""
    size = 8 * 1024 * 1024
    with store.staging() as staging:
        fill(staging, "small")
        (staging / "candidate" / "file").write_bytes(bytes(size))
        manifest = manifest_of(staging)
        (staging / MANIFEST_NAME).write_text(manifest.model_dump_json())
        tracemalloc.start()
        try:
            store.adopt(staging)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert store.manifest(manifest.bundle_id) == manifest
    assert peak < size / 4


# Going back


def test_rolling_back_and_forth(store: BundleStore) -> None:
    one, other = publish(store, "one"), publish(store, "other")
    store.point_to(one, published_at=1)
    with pytest.raises(BundleError, match="no previous bundle"):
        store.roll_back(published_at=2)
    store.point_to(other, published_at=3)
    assert (store.pointer().bundle_id, store.pointer().previous) == (other, one)
    back = store.roll_back(published_at=4)
    assert (back.bundle_id, back.previous, back.published_at) == (one, other, 4)
    assert back == store.pointer()
    assert store.roll_back(published_at=5).bundle_id == other


def test_a_bundle_that_is_damaged_is_not_rolled_back_to(store: BundleStore) -> None:
    one, other = publish(store, "one"), publish(store, "other")
    store.point_to(one, published_at=1)
    store.point_to(other, published_at=2)
    (store.path(one) / "manifest.json").unlink()
    with pytest.raises(BundleError, match=f"bundle {one}"):
        store.roll_back(published_at=3)
    assert store.pointer().bundle_id == other


def test_a_damaged_pointer_does_not_stop_publishing(store: BundleStore) -> None:
    one = publish(store, "one")
    (store.root / "current").write_text("{")
    store.point_to(one, published_at=1)
    assert (store.pointer().bundle_id, store.pointer().previous) == (one, None)


def test_the_newest_three_are_kept(store: BundleStore) -> None:
    ids = []
    for age in (50, 40, 30, 20, 10):
        ids.append(publish(store, f"{age}", age=age))
        store.point_to(ids[-1], published_at=-age)
    assert bundles(store) == set(ids[-3:])


def test_what_the_pointer_names_is_kept_however_old(store: BundleStore) -> None:
    oldest = publish(store, "oldest", age=100)
    store.point_to(oldest, published_at=0)
    others = [publish(store, f"{age}", age=age) for age in (40, 30, 20, 10)]
    store.point_to(others[-1], published_at=1)
    assert bundles(store) == {oldest, *others[-3:]}
    store.roll_back(published_at=2)
    assert store.pointer().bundle_id == oldest
