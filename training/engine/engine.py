"""The few operations that big steps need. What is done to a shard is the same on every engine.

Shards are mappings of arrays. What comes of one depends on it and on the work alone, and they come back in
their order: a job has the same bits on every engine, on any number of machines, and after one has died.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeAlias, overload

import numpy.typing as npt
from typing_extensions import override

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class GatheredParts(Sequence[Arrays]):
    """Parts of the data that are gathered when they are asked for, each time anew."""

    size: int
    gather: Callable[[int], Arrays]
    """The part at a place."""

    @override
    def __len__(self) -> int:
        return self.size

    @override
    def __iter__(self) -> Iterator[Arrays]:
        return map(self.gather, range(self.size))  # that of Sequence takes any IndexError for the end

    @overload
    def __getitem__(self, place: int) -> Arrays: ...
    @overload
    def __getitem__(self, place: slice) -> list[Arrays]: ...
    @override
    def __getitem__(self, place: int | slice) -> Arrays | list[Arrays]:
        places = range(self.size)[place]
        return self.gather(places) if isinstance(places, int) else [self.gather(one) for one in places]


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
    def kept(self) -> AbstractContextManager["Shards"]:
        """The shards, each computed once while the block runs, however often they are asked for."""

    @abstractmethod
    def collect(self) -> Iterator[Arrays]:
        """Each shard, in order: once, unless it is kept."""


class Engine(ABC):
    """Does work on shards. A context: at its end it lets go of what it took."""

    @property
    @abstractmethod
    def cores(self) -> int:
        """Cores that it works on."""

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
