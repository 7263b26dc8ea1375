"""A ranker's groups with their arrays: what turns histories and candidates into a matrix.

Training and serving call `FeatureTables.compute`, so that a model never sees features that were computed
in another way than those it learned from.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from serving.features.group import CatalogueArrays, Feature, FeatureCall, FeatureGroup, FeatureQuery
from serving.features.sets import FeatureGroups, feature_hash
from serving.ids import Rows
from serving.ratings import History

Group = TypeVar("Group", bound=FeatureGroup)


@dataclass(frozen=True)
class FeatureTables:
    """What features need besides the user's history and the candidates. Immutable, shared by requests."""

    catalogue: CatalogueArrays
    groups: tuple[FeatureGroup, ...]
    """In column order."""

    @cached_property
    def features(self) -> tuple[tuple[FeatureGroup, Feature], ...]:
        """Every feature with its group, in column order."""
        return tuple((group, feature) for group in self.groups for feature in group.features)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order."""
        return tuple(feature.name for _, feature in self.features)

    @cached_property
    def kinds(self) -> FeatureGroups:
        """The groups without their arrays."""
        return tuple(type(group) for group in self.groups)

    @property
    def hash(self) -> str:
        """See `feature_hash`."""
        return feature_hash(self.kinds, self.catalogue.movies.genres)

    def group(self, kind: type[Group]) -> Group:
        """The group of a kind that the ranker sees."""
        (found,) = (group for group in self.groups if isinstance(group, kind))
        return found

    def compute(self, queries: Sequence[FeatureQuery]) -> npt.NDArray[np.float32]:
        """The feature matrix of a call: the queries' rows, one query after the other.

        A user's rows have the same bits whatever else is in the call.

        Returns:
            Shape (n_rows, n_features), fresh and in Fortran order, which CatBoost reads fastest.
        """
        call = FeatureCall(queries)
        n_rows = sum(query.movie_rows.size for query in queries)
        columns = np.empty((len(self.features), n_rows), np.float32)
        start = 0
        for group in self.groups if queries else ():
            group.compute(call, columns[start : start + len(group.features)])
            start += len(group.features)
        return columns.T

    def movies_behind(
        self, history: History, movie_rows: Rows, names: Collection[str]
    ) -> Mapping[str, Sequence[int | None]]:
        """For each of the named features behind whose values one rated movie stands: its id for each movie.

        None where there is no such movie; see `FeatureGroup.movies_behind`.
        """
        ids = self.catalogue.movies.ids.ids
        return {
            name: [ids.item(row) if row >= 0 else None for row in rows.tolist()]
            for group in self.groups
            if any(feature.name in names for feature in group.features)
            for name, rows in group.movies_behind(history, movie_rows, names).items()
        }
