"""The file of the local store: made whole or not at all, and at home wherever its folder lies."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from mlflow.artifacts import download_artifacts

from tests.training.release.candidate import promote_candidate
from tests.training.release.test_tracking import record, runs, tracked
from training.release import tracking
from training.release.local_store import local_store, make_ready
from training.release.registry import MODEL, Registry
from training.release.tracking import track

KILLS: Final = int(os.environ.get("MOVIEREC_TEST_KILLS", "1"))
STATEMENTS: Final = 1_200
"""Of the 1,700 that MLflow 3.17 takes to make a store: it cannot mend what a kill among these leaves."""

JOB: Final = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from training.release.run_record import RunRecord
from training.release.tracking import track

left = int(sys.argv[2])

@event.listens_for(Engine, "after_cursor_execute")
def count(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

track(Path(sys.argv[1]), RunRecord("killed", "killed", {}, {}), None)
"""


def test_a_job_that_is_killed_while_it_makes_the_store_harms_nobody(tmp_path: Path) -> None:
    """MOVIEREC_TEST_KILLS sets how often."""
    root = tmp_path / "root"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for place in range(1, KILLS + 1):
        moment = place * STATEMENTS // (KILLS + 1)
        command = [sys.executable, "-c", JOB, str(root), str(moment)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not (root / "mlflow.db").exists()
    assert tracked(root, record(tmp_path)) == []
    assert {"killed", "two_stage"} <= set(runs(local_store(root)))
    assert promote_candidate(Registry(local_store(root))) == ("1", "b1")
    assert {path.name for path in root.iterdir()} == {".mlflow.db.lock", "mlflow.db", "mlruns", "unrecorded"}


def test_a_store_that_an_earlier_version_left_half_made_is_made_anew(root: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.execute("DROP TABLE registered_models")
        database.execute("DELETE FROM experiments")
        database.commit()
    assert tracked(root, record(tmp_path)) == []
    assert promote_candidate(Registry(local_store(root))) == ("1", "b1")


def test_a_new_file_as_tracking_uri_is_made_however_long_it_takes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_FIRST_ANSWER_SECONDS", 0.1)
    other = f"sqlite:///{tmp_path}/other/runs.db"
    assert tracked(root, record(tmp_path), other) == []
    assert promote_candidate(Registry(other)) == ("1", "b1")


@pytest.mark.parametrize("take", [shutil.copytree, shutil.move])
def test_a_folder_that_was_moved_or_copied_writes_into_itself(
    root: Path, tmp_path: Path, take: Callable[[Path, Path], object]
) -> None:
    track(root, record(root / "bundles"), None)
    there = tmp_path / "é [new] place"
    take(root, there)
    before = files(root)
    uri = local_store(there)
    track(there, record(there / "bundles", bundle_id="b2"), None)
    assert files(root) == before
    for bundle_id in ("b1", "b2"):
        registry = Registry(uri)
        version = registry.version_of(bundle_id)
        place = f"{there.as_uri()}/mlruns/two_stage_ranker/{version.run_id}/artifacts"
        assert registry.client.get_run(str(version.run_id)).info.artifact_uri == place
        source = registry.client.get_model_version_download_uri(MODEL, version.version)
        assert source == f"{place}/bundle"
        assert Path(download_artifacts(f"{place}/bundle/candidate")).is_relative_to(there)
    make_ready(uri)
    assert len(runs(uri)) == 2


def files(root: Path) -> dict[Path, int]:
    """All that lies in a folder, and when it changed."""
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}
