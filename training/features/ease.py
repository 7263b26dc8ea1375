"""EASE's weights between movies."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving.ratings import LIKED, Ratings
from training.data.ease import Ease
from training.data.movielens.movies import MovieTable
from training.engine.engine import Engine

_MOST_MOVIES: Final = 5_000
"""The most liked ones: a matrix of as many rows is inverted."""
_WEIGHTS_PER_MOVIE: Final = 100
_MOVIES_PER_BLOCK: Final = 500
_REGULARIZATION: Final = 200.0


def build(ratings: Ratings, table: MovieTable, _engine: Engine) -> dict[str, npt.NDArray[Any]]:
    """Of the weights to each movie, those that are largest by their size."""
    n_movies = len(table.movies.ids)
    likes = np.bincount(ratings.movie_rows[ratings.values >= LIKED], minlength=n_movies)
    most_liked = np.lexsort((np.arange(n_movies), -likes))[:_MOST_MOVIES]
    model = Ease.fit(ratings.where(np.isin(ratings.movie_rows, most_liked)), n_movies, _REGULARIZATION)
    n_weights = min(_WEIGHTS_PER_MOVIE, model.liked.size)
    sources, weights = np.zeros((n_movies, n_weights), np.int32), np.zeros((n_movies, n_weights), np.float32)
    for start in range(0, model.liked.size, _MOVIES_PER_BLOCK):
        places = np.arange(start, min(start + _MOVIES_PER_BLOCK, model.liked.size))
        of_all = model.weights_to(places)
        largest = np.argpartition(-np.abs(of_all), n_weights - 1, axis=1)[:, :n_weights]
        largest.sort(axis=1)
        sources[model.liked[places]] = model.liked[largest]
        weights[model.liked[places]] = np.take_along_axis(of_all, largest, axis=1)
    return {"sources": sources, "weights": weights}
