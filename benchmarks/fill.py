"""Lists for all users against the plain loop and the model work: `python -m benchmarks.fill --help`.

Users of a bundle are taken again and again until there are as many as asked for: what one costs does not
depend on how many there are.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported, as in servers and in the job
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from benchmarks.long_tail import write_long_tail
from benchmarks.serving.model import Model
from serving.bundle.store import BundleError, BundleStore
from training.engine.local import LocalEngine
from training.models.fill import ListsOfUsers, shards_of
from training.models.recommenders import TwoStageRecommender

_LIMIT: Final = 20
_RATINGS: Final = 300_000
_MOVIES: Final = 17_700
_TRAINING: Final = (
    *("--features", "extended", "--source-weights", "1,0.5,0.25", "--als-regularization", "30"),
    *("--ranker-loss", "Logloss", "--force", "--settle-seconds", "0"),
)
"""What is measured does not depend on how good the lists are: nothing is chosen."""
_LOOPED: Final = 300
_WORKED: Final = 3_000
_TOGETHER: Final = 64


def main(
    users: Annotated[
        int,
        typer.Option(
            min=1_000, help="Lists to fill on all cores, start of the processes included; on one, its share."
        ),
    ] = 60_000,
    bundle_root: Annotated[
        Path, typer.Option(help="Where the bundle is; one is trained on generated ratings if there is none.")
    ] = Path("build/fill"),
) -> None:
    """Prints users a second, per core."""
    store = _trained(bundle_root)
    bundle_id = store.pointer().bundle_id
    recommender = TwoStageRecommender.load(bundle_root)
    user_ids = recommender.catalogue.ratings.users.ids.tolist()
    n_movies = len(recommender.catalogue.movies.ids)
    typer.echo(f"Bundle {bundle_id}: {len(user_ids):,} users, {n_movies:,} movies, lists of {_LIMIT}")

    looped = [user_ids[place % len(user_ids)] for place in range(_LOOPED)]
    loop = _LOOPED / _seconds(lambda: [recommender.recommend(user_id, _LIMIT) for user_id in looped])
    typer.echo(f"plain loop over recommend: {loop:,.0f} users a second, one core")

    model = Model.load(bundle_root)
    worked = [user_ids[place % len(user_ids)] for place in range(_WORKED)]

    def work() -> None:
        for start in range(0, _WORKED, _TOGETHER):
            model.top(worked[start : start + _TOGETHER], _LIMIT)

    alone = _WORKED / _seconds(work)
    typer.echo(f"model work alone, {_TOGETHER} users a call: {alone:,.0f} users a second, one core")

    lists = ListsOfUsers(store.path(bundle_id).absolute(), _LIMIT)
    cores = len(os.sched_getaffinity(0))
    for workers in sorted({1, cores}):
        rows = np.resize(np.arange(len(user_ids), dtype=np.int32), users * workers // cores)
        shards = LocalEngine(workers).shards(shards_of(rows)).map(lists)
        rate = rows.size / _seconds(partial(deque, shards.collect(), maxlen=0))
        typer.echo(
            f"fill of {rows.size:,} users, {workers} processes: {rate:,.0f} users a second, "
            f"{rate / workers:,.0f} per core: {rate / loop:.1f} times the plain loop; "
            f"{alone * workers / rate:.2f} times model work"
        )


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _trained(root: Path) -> BundleStore:
    store = BundleStore(root)
    try:
        store.pointer()
    except BundleError:
        data = root / "data"
        data.mkdir(parents=True, exist_ok=True)
        write_long_tail(data, _RATINGS, n_movies=_MOVIES)
        command = (sys.executable, "-m", "training", "train")
        folders = ("--data-dir", str(data), "--bundle-root", str(root))
        subprocess.run((*command, *folders, *_TRAINING), check=True)  # noqa: S603  # the job of ours
    return store


if __name__ == "__main__":
    typer.run(main)
