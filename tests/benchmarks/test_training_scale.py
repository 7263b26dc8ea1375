"""Invented ratings are what they promise, and the page says what was measured; how much, no test judges."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import training_scale
from benchmarks.long_tail import n_movies_of, n_users_of, write_long_tail
from benchmarks.process_tree import tree_bytes, tree_seconds
from benchmarks.training_scale import Run, Stage, train
from training.data.movielens.data_set import read_data_set

N_RATINGS = 100_000


def test_invented_ratings_are_clean_have_a_long_tail_and_are_always_the_same(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        write_long_tail(folder, N_RATINGS)
    for name in ("ratings.csv", "movies.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    table, clean = read_data_set(one)
    assert clean.counts.kept == clean.counts.read
    assert 0.9 * N_RATINGS < clean.counts.kept < 1.02 * N_RATINGS  # few movies: some users run out of them
    assert len(clean.ratings.users) == n_users_of(N_RATINGS)
    assert len(table.movies.ids) == n_movies_of(N_RATINGS)
    assert clean.ratings.counts().min() >= 15
    by_movie = np.sort(np.bincount(clean.ratings.movie_rows, minlength=len(table.movies.ids)))[::-1]
    assert by_movie[: by_movie.size // 10].sum() > 0.4 * N_RATINGS
    assert 3 < clean.ratings.values.mean() < 4


def run(ratings: int, *, peak_gib: float, engine: str = "local") -> Run:
    return Run(
        engine=engine,
        ratings=ratings,
        users=100,
        movies=50,
        judged=90,
        ndcg={"two_stage": 0.3, "als": 0.2, "popularity": 0.1},
        groups=70,
        seconds=240.0,
        cpu_seconds=300.0,
        sampled_gib=peak_gib - 0.2,
        cluster_gib=1.7,
        stages={
            "reading": Stage(1, 60.0, 66.0, 0.5),
            "ranker": Stage(3, 120.0, 180.0, peak_gib),
            "the rest": Stage(0, 60.0, 54.0, None),
        },
    )


def test_the_page_keeps_what_people_wrote_above_the_table(tmp_path: Path) -> None:
    (tmp_path / "5-million").mkdir()
    for engine, peak in (("local", 1.5), ("spark", 2.5)):
        one = run(5 * 10**6, peak_gib=peak, engine=engine)
        (tmp_path / "5-million" / f"{engine}.json").write_text(json.dumps(asdict(one)))
    page = tmp_path / "training-scale.md"
    page.write_text(f"# Words\n\n{training_scale.MARKER}\n\nan old table")
    training_scale.main([5e6], work_dir=tmp_path, out=tmp_path, spark=True)
    text = page.read_text()
    assert text.startswith("# Words\n")
    assert "an old table" not in text
    assert "| ranker | 2.0, 3 times | 3.0 | 1.5 | 2.0, 3 times | 3.0 | 2.5 |" in text
    assert "| **all** | **4.0** | **5.0** | **1.5** | **4.0** | **5.0** | **2.5** |" in text
    assert (
        "|  | 5.0 million, min | 5.0 million, CPU min | 5.0 million, GiB | 5.0 million, Spark, min |" in text
    )
    assert "| Spark's workers and executors |  |  |  |  |  | 1.7 |" in text
    assert "0.300, 0.200, 0.100" in text
    assert (tmp_path / "training-scale.svg").read_text().lstrip().startswith("<?xml")


def test_memory_and_processor_time_count_children_too() -> None:
    script = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as sleeping:
        assert sleeping.stdout is not None
        try:
            sleeping.stdout.readline()  # it has grown to its size
            assert {os.getpid(), sleeping.pid} <= set(tree_seconds(os.getpid()))
            assert tree_bytes(os.getpid()) > tree_bytes(sleeping.pid) > 10**6
        finally:
            sleeping.kill()
    assert tree_bytes(sleeping.pid) == 0, "there is no such process"


@pytest.mark.long
def test_a_training_that_fails_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(training_scale.ScaleError, match=r"ended with status 1: see .*train\.log"):
        train(1, tmp_path / "data", tmp_path / "bundles", tmp_path / "train.log")
    assert "does not name a data set" in (tmp_path / "train.log").read_text()
