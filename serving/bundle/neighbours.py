"""`neighbours.npz`, the similarity service's own file: writer beside reader."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.store import BundleFolder, write_arrays

_NEIGHBOURS_FILE: Final = "neighbours.npz"


@dataclass(frozen=True)
class NeighboursContent:
    """The nearest movies of every movie, computed in training."""

    movie_rows: npt.NDArray[np.int32]
    """Shape (n_movies, n_neighbours): nearest first; -1 where there are fewer."""
    scores: npt.NDArray[np.float32]
    """Same shape: cosine of ALS factors, -1 to 1, or the Jaccard index of genres, 0 to 1."""

    def write(self, folder: Path) -> None:
        """Writes the neighbours."""
        write_arrays(folder / _NEIGHBOURS_FILE, movie_rows=self.movie_rows, scores=self.scores)

    @classmethod
    def read(cls, folder: BundleFolder) -> "NeighboursContent":
        """Reads what `write` wrote."""
        return cls(**folder.arrays(_NEIGHBOURS_FILE, "movie_rows", "scores"))
