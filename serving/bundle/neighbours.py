"""`neighbours.npz`, the similarity service's own file."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from serving.bundle.store import ArraysFile


@dataclass(frozen=True)
class NeighboursContent(ArraysFile):
    """The nearest movies of every movie, computed in training."""

    FILE: ClassVar = "neighbours.npz"

    movie_rows: npt.NDArray[np.int32]
    """Shape (n_movies, n_neighbours): nearest first; -1 where there are fewer."""
    scores: npt.NDArray[np.float32]
    """Same shape: cosine of ALS factors, -1 to 1, or the Jaccard index of genres, 0 to 1."""
