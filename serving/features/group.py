"""What a group of features is: names, phrases, arrays, and one computation over all users of a call.

All features are numeric float32; NaN stands for unknown.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from serving.explanations import MOVIE
from serving.ids import Rows
from serving.movies import Movies
from serving.ratings import History
from serving.sources import NO_RANKS, SourceRanks

Columns: TypeAlias = npt.NDArray[np.float32]
"""Shape (n_features, n_rows): a row of this array is a column of the ranker's matrix, contiguous."""


class Feature(NamedTuple):
    """A feature's name, and what its values say to a reader."""

    name: str
    phrase: str
    """For `str.format`, of `value` and `movie`."""
    otherwise: str = ""
    """The phrase of values of 0 and below, where it is another; its `value` has no sign."""
    unknown: str = "unknown"
    """The phrase of a missing value."""
    one: str = ""
    """The phrase of values that are shown as 1, where `phrase` has a plural."""


class ProbeContext(NamedTuple):
    """How movies stand to a candidate list that they are not on."""

    ranks: npt.NDArray[np.int64]
    """Shape (n_movies,): the place of each in retrieval, from 1."""
    list_scores: npt.NDArray[np.floating]
    """Shape (n_candidates,): the ALS scores of the list."""


class FeatureQuery(NamedTuple):
    """One user's movies whose features are wanted."""

    history: History
    """All that is known of the user, training ratings and request history joined."""
    movie_rows: Rows
    """Shape (n_movies,): the whole candidate list, as ranks and standardised scores are those within it."""
    retrieval_scores: npt.NDArray[np.floating]
    """Shape (n_movies,): ALS scores, finite."""
    probe_context: ProbeContext | None = None
    """How the movies stand to another list; none: they are the list."""
    source_ranks: SourceRanks = NO_RANKS
    """One per movie of each source that was asked."""


@dataclass(frozen=True)
class FeatureCall:
    """The queries of a call, and their rows of the matrix: flat, query after query."""

    queries: Sequence[FeatureQuery]

    @cached_property
    def parts(self) -> Sequence[tuple[FeatureQuery, slice]]:
        """Each query, and its rows."""
        ends = accumulate((query.movie_rows.size for query in self.queries), initial=0)
        rows = (slice(start, end) for start, end in pairwise(ends))
        return list(zip(self.queries, rows, strict=True))

    @cached_property
    def movie_rows(self) -> Rows:
        """Shape (n_rows,)."""
        return np.concatenate([query.movie_rows for query in self.queries])


@dataclass(frozen=True)
class CatalogueArrays:
    """What every group may read of the movies besides its own arrays."""

    movies: Movies
    item_unit_factors: npt.NDArray[np.float32]
    """Shape (n_movies, n_factors): ALS item factors of length one; a zero row where there are none."""

    @cached_property
    def genre_flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres)."""
        return self.movies.genre_flags()

    @cached_property
    def genre_shares(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres): the flags of each movie, over how many there are."""
        shares: npt.NDArray[np.float32] = self.genre_flags / np.maximum(
            self.genre_flags.sum(axis=1, keepdims=True), 1
        )
        return shares


@dataclass(frozen=True)
class FeatureGroup(ABC):
    """Features that are computed together. The fields of a group are the arrays that training builds for it.

    They are built by a module of `training.features` that has the name of the group's own module. Immutable,
    and shared by requests.
    """

    NAME: ClassVar[str]
    VERSION: ClassVar[int]
    """Counts up when values change while names do not."""
    FEATURES: ClassVar[tuple[Feature, ...]]
    """In column order, those that every catalogue has."""

    catalogue: CatalogueArrays

    @classmethod
    def array_names(cls) -> tuple[str, ...]:
        """Names of the arrays that training builds for the group; none for most."""
        return tuple(one.name for one in fields(cls) if one.name != "catalogue")

    @classmethod
    def features_for(cls, genres: Sequence[str]) -> tuple[Feature, ...]:  # noqa: ARG003
        """In column order, the features that the group has for a catalogue of these genres."""
        return cls.FEATURES

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """In column order, those for the catalogue at hand."""
        return self.features_for(self.catalogue.movies.genres)

    @property
    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """The arrays that training built, by name."""
        return {name: getattr(self, name) for name in self.array_names()}

    @abstractmethod
    def compute(self, call: FeatureCall, out: Columns) -> None:
        """Fills the group's columns for all users of a call; each user's values depend on nobody else.

        Args:
            call: whose movies.
            out: shape (len(features), n_rows), written.
        """

    def movies_behind(
        self,
        history: History,  # noqa: ARG002
        movie_rows: Rows,  # noqa: ARG002
        names: Collection[str],  # noqa: ARG002
    ) -> Mapping[str, Rows]:
        """By name, of the features whose values come from one rated movie: its row, -1 where there is none.

        Args:
            history: of the user.
            movie_rows: shape (n_movies,), what was recommended; so are the rows that are returned.
            names: the features that are wanted.
        """
        return {}

    def phrase(self, feature: Feature, value: float | None, n_candidates: int) -> str:  # noqa: ARG002
        """What a value says to a reader; `MOVIE` stays in it.

        Args:
            feature: of the group.
            value: what the ranker saw; None when it was missing.
            n_candidates: movies that were ranked together.
        """
        if value is None:
            return feature.unknown
        if feature.otherwise and value <= 0:
            return feature.otherwise.format(value=abs(value), movie=MOVIE)
        if feature.one and round(value) == 1:
            return feature.one
        return feature.phrase.format(value=value, movie=MOVIE)
