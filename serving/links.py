"""Weighted links from each movie to others."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serving.ids import Rows


class Links(NamedTuple):
    """Links of some movies, one movie after the other."""

    counts: npt.NDArray[np.int64]
    """Number of links of each movie."""
    targets: Rows
    """Shape (n_links,): where each leads."""
    weights: npt.NDArray[np.float32]
    """Shape (n_links,)."""


@dataclass(frozen=True)
class LinkTable:
    """Links between the movies of a catalogue, row-compressed.

    Raises:
        ValueError: its arrays do not belong together.
    """

    indptr: npt.NDArray[np.int64]
    """Shape (n_movies + 1,)."""
    movie_rows: Rows
    """Shape (n_links,): where each link leads; those of one movie lead to different ones."""
    weights: npt.NDArray[np.float32]
    """Shape (n_links,): positive."""

    def __post_init__(self) -> None:
        if self.indptr[-1] != self.movie_rows.size or self.movie_rows.size != self.weights.size:
            raise ValueError("indptr, movie_rows and weights do not belong together")

    def links_of(self, movies: Rows) -> Links:
        """The links of some movies, in their order."""
        starts, ends = self.indptr.take(movies), self.indptr.take(movies + 1)
        counts = ends - starts
        before = counts.cumsum() - counts
        places = np.arange(counts.sum()) + (starts - before).repeat(counts)
        return Links(counts, self.movie_rows.take(places), self.weights.take(places))
