"""Item factors of ALS by implicit's own fit and on both engines: `python -m benchmarks.als_engines --help`.

All give the same factors and links to the bit, or it fails. Reading and cleaning are timed as well. Spark's
executors are threads of a JVM on this machine, unless `PYSPARK_SUBMIT_ARGS` names a cluster. Linux only.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported, as in the job

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final, TypeVar

import numpy as np
import numpy.typing as npt
import typer
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from benchmarks.long_tail import write_long_tail
from benchmarks.process_tree import tree_seconds
from serving.fold_in import AlsParameters
from serving.ratings import Ratings
from training.data.movielens.data_set import read_data_set
from training.engine.engine import Engine
from training.engine.local import LocalEngine
from training.engine.spark import SparkEngine
from training.features import transitions
from training.models.als_shards import fit_item_factors
from training.models.recipe import DEFAULT_PARAMETERS

_CORES: Final = len(os.sched_getaffinity(0))
_SEED: Final = 0
_Found = TypeVar("_Found")


def main(
    ratings: Annotated[float, typer.Option(min=1e4, max=1e8, help="How many are invented.")] = 1e7,
    iterations: Annotated[int, typer.Option(min=1, help="Of ALS; the job's own number is 15.")] = 3,
) -> None:
    """Prints seconds, and processor seconds of all processes, for an iteration."""
    with TemporaryDirectory() as folder:
        write_long_tail(Path(folder), int(ratings))
        table, cleaned = _timed("reading and cleaning", lambda: read_data_set(Path(folder)))
    data, n_movies = cleaned.ratings, len(table.movies.ids)
    parameters = replace(DEFAULT_PARAMETERS, iterations=iterations)
    typer.echo(
        f"{data.values.size:,} ratings of {len(data.users):,} users by {n_movies:,} movies, {_CORES} cores"
    )

    def factors(engine: Engine) -> npt.NDArray[np.float32]:
        return fit_item_factors(data, n_movies, parameters, seed=_SEED, engine=engine)

    def links(engine: Engine) -> bytes:
        return b"".join(array.tobytes() for array in transitions.build(data, table, engine).values())

    local = LocalEngine(_CORES)
    expected = _timed("implicit", lambda: _implicit(data, n_movies, parameters), iterations)
    expected_links = _timed("links, local", partial(links, local))
    with SparkEngine() as spark:
        on_spark = f"Spark, {spark.cores} cores"
        for name, engine in (("local", local), (f"{on_spark}, first fit", spark), (on_spark, spark)):
            found = _timed(name, partial(factors, engine), iterations)
            if found.tobytes() != expected.tobytes():
                raise SystemExit(f"{name}: the factors are not those of implicit")
        if _timed(f"links, {on_spark}", partial(links, spark)) != expected_links:
            raise SystemExit("links are not those of this machine")


def _timed(name: str, work: Callable[[], _Found], iterations: int = 1) -> _Found:
    cpu = partial(tree_seconds, os.getpid(), ended=True)
    began, cpu_before = time.perf_counter(), sum(cpu().values())
    found = work()
    seconds, cpu_seconds = time.perf_counter() - began, sum(cpu().values()) - cpu_before
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # getrusage(2) counts KiB
    typer.echo(
        f"{name}: {seconds / iterations:.1f} s, {cpu_seconds / iterations:.1f} of the processor"
        f"{', an iteration' if iterations > 1 else ''}; peak of this process so far {peak_gib:.1f} GiB"
    )
    return found


def _implicit(ratings: Ratings, n_movies: int, parameters: AlsParameters) -> npt.NDArray[np.float32]:
    model = AlternatingLeastSquares(
        factors=parameters.factors,
        regularization=parameters.regularization,
        alpha=1.0,  # ours is in the confidences
        iterations=parameters.iterations,
        num_threads=_CORES,
        random_state=_SEED,
    )
    confidences = parameters.confidences(ratings.values)
    shape = (len(ratings.users), n_movies)
    model.fit(csr_matrix((confidences, ratings.movie_rows, ratings.indptr), shape), show_progress=False)
    factors: npt.NDArray[np.float32] = model.item_factors
    return factors


if __name__ == "__main__":
    typer.run(main)
