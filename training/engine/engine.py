"""The few operations that big steps need. What is done to a shard is the same on every engine.

Shards are mappings of arrays. Their number and their order are the job's, never the engine's: sums of floats
have the same bits on every engine, on any number of machines, and after a machine has died.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

MOVIE_ROWS = "movie_rows"
"""Of a shard that is summed by movie: the movie of each first index, ascending, none twice."""


class Work(ABC):
    """What is done to each shard. It can be pickled; its answer depends on shard and fields alone."""

    HOLDS_INTERPRETER: ClassVar = False
    """Whether threads of one interpreter would only wait for each other."""

    @abstractmethod
    def open(self) -> Callable[[Arrays], Arrays]:
        """The function of one shard, with all that shards share made ready."""


class Shards(ABC):
    """Parts of the data, in an order."""

    @abstractmethod
    def map(self, work: Work) -> "Shards":
        """What the work makes of each shard, once it is asked for."""

    @abstractmethod
    def sum_by_movie(self, n_blocks: int) -> "Shards":
        """The arrays added up by movie, each in float64 and in the order of the shards.

        Returns:
            A shard per block of movies: those whose row has the same rest when divided by `n_blocks`.
        """

    @abstractmethod
    def kept(self) -> AbstractContextManager["Shards"]:
        """The shards, each computed once while the block runs, however often they are asked for."""

    @abstractmethod
    def collect(self) -> Iterator[Arrays]:
        """Each shard, in order."""


class Engine(ABC):
    """Does work on shards. A context: at its end it lets go of what it took."""

    DISTRIBUTED: ClassVar[bool]
    """Whether the shards lie on several machines, where what needs them all in one memory cannot be done."""

    @property
    @abstractmethod
    def cores(self) -> int:
        """On which it works."""

    @abstractmethod
    def shards(self, parts: Sequence[Arrays]) -> Shards:
        """Takes parts of the data."""

    def __enter__(self) -> Self:
        """Nothing is to be done."""
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027  # not every engine holds something
        """Lets go of what is held."""


@lru_cache(maxsize=1)
def opened(work: Work) -> Callable[[Arrays], Arrays]:
    """What `open` returns, once in each process for as long as the work is the same."""
    return work.open()


def block_of(shard: Arrays, block: int, n_blocks: int) -> Arrays:
    """The movies of one block."""
    within = shard[MOVIE_ROWS] % n_blocks == block
    return {name: array[within] for name, array in shard.items()}


def added_up(parts: Sequence[Arrays]) -> Arrays:
    """The sums of one block: of each movie in any of the parts, in their order."""
    rows = np.unique(np.concatenate([part[MOVIE_ROWS] for part in parts]))
    sums = {
        name: np.zeros((rows.size, *array.shape[1:]))
        for name, array in parts[0].items()
        if name != MOVIE_ROWS
    }
    for part in parts:
        places = np.searchsorted(rows, part[MOVIE_ROWS])
        for name, total in sums.items():
            total[places] += part[name]
    return {MOVIE_ROWS: rows, **sums}
