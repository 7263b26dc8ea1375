"""What exact retrieval costs in a large catalogue: `python -m benchmarks.retrieval --help`.

ALS is fitted on real ratings. Its movies are drawn again, as many as asked for, each turned a little; norms
are their own, stretched by log-normal factors: the more these spread, the longer the tail. Users are the real
ones. Each is asked for by the matrix product and by the scan, and both answers are compared to the last bit.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported, as in the servers

from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.table import Table

from serving.retrieval import Candidates, RowsByNorm, retrieve, retrieve_by_norm
from training.cli.terminal import Terminal
from training.data.movielens.data_set import read_data_set
from training.engine.local import LocalEngine
from training.models.als import Als
from training.models.recipe import DEFAULT_PARAMETERS

_LIMIT: Final = 300
_TURN: Final = 0.3
"""Length of the random vector that is added to a direction."""
_STRETCHES: Final = (0.5, 0.2, 0.0)
"""Deviations of the logarithm of the factor that a norm is stretched by."""
_STRICT_SHARE: Final = 0.01
_ROWS_AT_ONCE: Final = 50_000

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class WrongAnswerError(Exception):
    """Both ways must give the same movies and scores."""


def main(
    data_dir: Annotated[
        Path, typer.Option(envvar="MOVIEREC_DATA_DIR", help="Folder of a MovieLens data set.")
    ],
    movies: Annotated[int, typer.Option(min=1, help="Size of the catalogue.")] = 1_000_000,
    users: Annotated[int, typer.Option(min=1, help="Users to ask for, one after the other.")] = 300,
) -> None:
    """Prints what one user's 300 best movies take, by how the norms spread."""
    table = Table(
        title=f"Processor ms at p50: best {_LIMIT} of {movies:,} movies, {DEFAULT_PARAMETERS.factors} factors"
    )
    for heading in ("norms", "read", "product", "p95", "scan", "p95", f"{_STRICT_SHARE:.0%} allowed"):
        table.add_column(heading, justify="left" if heading == "norms" else "right")
    item_factors, user_factors = _fit(data_dir)
    vectors = user_factors[user_factors.any(axis=1)][:users]
    everything = np.zeros(movies, np.bool_)
    strict = np.random.default_rng(1).random(movies) > _STRICT_SHARE
    for stretch in _STRETCHES:
        factors = _drawn_again(item_factors, movies, stretch)
        items = RowsByNorm.of(factors)
        product, expected = _ask(lambda *query, f=factors: retrieve(f, *query), vectors, everything)
        scan, found = _ask(lambda *query, i=items: retrieve_by_norm(i, *query), vectors, everything)
        filtered, _ = _ask(lambda *query, i=items: retrieve_by_norm(i, *query), vectors, strict)
        for one, other in zip(found, expected, strict=True):
            if (one.movie_rows.tobytes(), one.scores.tobytes()) != (
                other.movie_rows.tobytes(),
                other.scores.tobytes(),
            ):
                raise WrongAnswerError("the scan and the matrix product differ")
        share = items.share_read(vectors, np.array([one.scores[-1] for one in found]))
        figures = (*np.percentile(product, [50, 95]), *np.percentile(scan, [50, 95]), np.median(filtered))
        table.add_row(f"exp({stretch:g} N)", f"{share:.1%}", *(f"{1_000 * figure:.1f}" for figure in figures))
    Terminal().print(table)


def _fit(data_dir: Path) -> tuple[Floats, Floats]:
    """Factors of the movies that have been rated, and of all users."""
    table, clean = read_data_set(data_dir)
    als = Als.fit(clean.ratings, len(table.movies.ids), DEFAULT_PARAMETERS, seed=0, engine=LocalEngine(2))
    return als.item_factors[als.item_factors.any(axis=1)], als.user_factors


def _drawn_again(item_factors: Floats, n_movies: int, stretch: float) -> Floats:
    rng = np.random.default_rng(0)
    n_factors = item_factors.shape[1]
    norms = np.linalg.norm(item_factors, axis=1, keepdims=True)
    drawn = np.empty((n_movies, n_factors), np.float32)
    for block in np.split(drawn, range(_ROWS_AT_ONCE, n_movies, _ROWS_AT_ONCE)):
        rows = rng.integers(norms.size, size=len(block))
        turned = item_factors[rows] / norms[rows] + rng.normal(0, _TURN / n_factors**0.5, block.shape)
        stretched = norms[rows] * np.exp(stretch * rng.normal(size=(len(block), 1)))
        block[:] = turned / np.linalg.norm(turned, axis=1, keepdims=True) * stretched
    return drawn


def _ask(
    search: Callable[[Floats, list[Mask], list[int]], list[Candidates]], vectors: Floats, blocked: Mask
) -> tuple[list[float], list[Candidates]]:
    """Seconds and answers, one of each per user."""
    seconds, answers = [], []
    for vector in vectors:
        began = process_time()
        answers += search(vector[None], [blocked], [_LIMIT])
        seconds.append(process_time() - began)
    return seconds, answers


if __name__ == "__main__":
    typer.run(main)
