"""Lists of all users: those of the recommender, to the last bit; killed or not, the same file."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet  # type: ignore[import-untyped]

from gateway.lists.catalogue import Catalogue
from serving.bundle.sources import read_sources
from serving.bundle.store import BundleStore
from serving.filters import UNRESTRICTED
from tests.conftest import Trained
from training.engine.local import LocalEngine
from training.models import fill as filling
from training.models import recommenders
from training.models.fill import fill, table_of
from training.models.recommenders import POPULARITY, TwoStageRecommender

LIMIT = 20


def filled(trained: Trained, out: Path, workers: int = 1) -> int:
    bundle = trained.root / "bundles" / trained.bundle_id
    n_users = len(trained.two_stage.stage.ratings.users)
    with LocalEngine(workers) as engine:
        return fill(bundle, n_users, LIMIT, out, engine=engine, advance=lambda: None)


@pytest.fixture(scope="module")
def lists(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lists") / "lists.parquet"
    assert filled(trained, out) == len(trained.two_stage.stage.ratings.users)
    return out


def test_every_list_is_that_of_the_recommender(trained: Trained, lists: Path) -> None:
    """Which answers as the servers do: test_recommenders.py."""
    recommender = TwoStageRecommender.load(trained.root)
    rows = parquet.read_table(lists).to_pylist()
    assert [row["user_id"] for row in rows] == trained.two_stage.stage.ratings.users.ids.tolist()
    assert {row["bundle_id"] for row in rows} == {trained.bundle_id}
    for row in rows[::8]:
        items = recommender.recommend(row["user_id"], LIMIT)
        assert row["movie_ids"] == [item.movie_id for item in items]
        assert row["scores"] == [item.score for item in items]
        assert row["model"] == items[0].model
    assert {row["model"] for row in rows} >= {"two_stage"}


def test_users_whom_popularity_serves_better_get_its_list(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings = trained.two_stage.stage.ratings
    everybody = np.arange(len(ratings.users), dtype=np.int32)
    longest = int(ratings.counts().max())

    def for_long_histories(*arguments: Any) -> Any:
        record, sources = read_sources(*arguments)
        return replace(record, least_history=longest), sources

    monkeypatch.setattr(recommenders, "read_sources", for_long_histories)
    popular = TwoStageRecommender.load(trained.root)
    catalogue = Catalogue.load(BundleStore(trained.root), trained.bundle_id)
    n_popular = 0
    for user_row, one in zip(everybody.tolist(), popular.lists(everybody, LIMIT), strict=True):
        user_id = int(ratings.users.ids[user_row])
        assert [item.movie_id for item in popular.recommend(user_id, LIMIT)] == (
            popular.catalogue.movies.ids.ids[one.movie_rows].tolist()
        )
        if one.n_own == 0:
            blocked = catalogue.blocked(UNRESTRICTED, seen_by_user_id=user_id)
            page = catalogue.most_popular(blocked, LIMIT)
            assert one.movie_rows.tolist() == page.movie_rows.tolist()
            assert one.scores.tolist() == page.scores.tolist()
            n_popular += 1
    assert 0 < n_popular < everybody.size


def test_the_name_of_a_popular_list_is_that_of_the_api(tmp_path: Path) -> None:
    lists = {
        "user_ids": np.array([1, 2]),
        "sizes": np.array([1, 2], np.int32),
        "movie_ids": np.array([7, 8, 9], np.int32),
        "scores": np.array([0.5, 3.0, 2.0]),
        "popular": np.array([False, True]),
    }
    first, second = table_of(lists, "b").to_pylist()
    assert (first["model"], first["movie_ids"], first["scores"]) == ("two_stage", [7], [0.5])
    assert (second["model"], second["movie_ids"], second["scores"]) == (POPULARITY, [8, 9], [3.0, 2.0])


def test_a_job_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    trained: Trained, lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lists.parquet"
    program = (
        "import sys; from pathlib import Path; from training.engine.local import LocalEngine;"
        "from training.models import fill; fill._USERS_PER_SHARD = 30\n"
        "if __name__ == '__main__':\n"
        "    fill.fill(Path(sys.argv[1]), int(sys.argv[2]), 20, Path(sys.argv[3]),"
        " engine=LocalEngine(1), advance=lambda: print('part', flush=True) or __import__('time').sleep(60))"
    )
    script = tmp_path / "job.py"
    script.write_text(program, encoding="utf-8")
    n_users = len(trained.two_stage.stage.ratings.users)
    bundle = trained.root / "bundles" / trained.bundle_id
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = (sys.executable, str(script), str(bundle), str(n_users), str(out))
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "part\n"
        job.send_signal(signal.SIGKILL)
    assert not out.exists()
    monkeypatch.setattr(filling, "_USERS_PER_SHARD", 30)
    assert filled(trained, out) == n_users - 30
    whole = tmp_path / "whole" / "lists.parquet"
    whole.parent.mkdir()
    assert filled(trained, whole, workers=2) == n_users
    assert hashlib.sha256(out.read_bytes()).digest() == hashlib.sha256(whole.read_bytes()).digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.py", "lists.parquet", "whole"]
    assert parquet.read_table(out).equals(parquet.read_table(lists))


def test_sigterm_ends_a_job_whose_work_is_in_other_processes(trained: Trained, tmp_path: Path) -> None:
    """`multiprocessing` unblocks the signal in whatever thread starts the first of them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    options = ["--bundle-root", str(trained.root), "--out", str(tmp_path / "lists.parquet"), "--workers", "1"]
    command = (sys.executable, "-m", "training", "fill", *options)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as job:
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children")
        while job.poll() is None and len(children.read_text().split()) < 2:  # its tracker and a worker
            time.sleep(0.02)
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=60)  # until no process holds its output any longer
        assert job.returncode == 143
