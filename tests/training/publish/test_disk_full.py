"""A full disk in the middle of publishing: `current` stays, the job says so, and the rest goes next time."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from catboost import CatBoostError
from rich.console import Console

from serving.bundle.store import BundleStore
from tests.conftest import Trained
from training.models.recipe_record import recipe_of
from training.progress import Progress
from training.publish.publish import Build, publish

_BLOCK = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB, mounted here alone."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=False)  # noqa: S607
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)  # noqa: S607


def fill(disk: Path, *, free: int) -> Path:
    """Leaves this many bytes."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - free))
    return filler


@pytest.mark.row(40)
@pytest.mark.parametrize(
    "share",
    [0.02, pytest.param(0.2, marks=pytest.mark.long), 0.5, pytest.param(0.8, marks=pytest.mark.long), 0.98],
)
def test_current_stays_and_the_next_job_ends_well(
    small_disk: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(BundleStore, "require_space", lambda *_: None)  # filled by others meanwhile
    store = BundleStore(small_disk)
    source = BundleStore(trained.root).path(trained.bundle_id)
    recipe, _ = recipe_of(BundleStore(trained.root).manifest(trained.bundle_id).recipe)
    build = Build(
        two_stage=trained.two_stage, table=trained.table, recipe=recipe, dataset_tag="t", metrics={}
    )
    (small_disk / "current").write_text('{"bundle_id": "old", "published_at": 0}')
    blocks = {f.stat().st_ino: -(-f.stat().st_size // _BLOCK) for f in source.rglob("*.*")}
    filler = fill(small_disk, free=int(sum(blocks.values()) * _BLOCK * share))
    progress = Progress(Console(quiet=True))
    with pytest.raises((OSError, CatBoostError)) as error:
        publish(small_disk, build, progress)
    if isinstance(error.value, OSError):
        assert error.value.errno == errno.ENOSPC
    assert store.pointer().bundle_id == "old"
    filler.unlink()
    assert publish(small_disk, build, progress) == trained.bundle_id
    assert [path.name for path in (small_disk / "bundles").iterdir()] == [trained.bundle_id]
    assert store.pointer().bundle_id == trained.bundle_id
