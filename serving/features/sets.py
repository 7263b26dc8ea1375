"""Which features a ranker sees: sets of groups."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from serving.features.factors import FactorFeatures
from serving.features.genre import GenreFeatures
from serving.features.group import FeatureGroup
from serving.features.movie import MovieFeatures
from serving.features.neighbours import NeighbourFeatures
from serving.features.place import PlaceFeatures
from serving.features.retrieval import RetrievalFeatures
from serving.features.sources import SourceFeatures
from serving.features.time import TimeFeatures
from serving.features.transitions import TransitionFeatures
from serving.features.user import UserFeatures


class FeatureSet(StrEnum):
    """Which features a ranker was trained on."""

    REFERENCE = "reference"
    """The 38 of the reference: user, movie, ALS score."""
    EXTENDED = "extended"
    """Those, and the candidate's place in the list, its closeness to what the user rated last, and what
    the movie was at that time."""
    UNTIMED = "untimed"
    """Those of the reference, the place in the list and the match of genres: ratings without times have no
    order, and nobody knows which was the last."""

    @property
    def groups(self) -> tuple[type[FeatureGroup], ...]:
        """The set's groups in column order."""
        return _GROUPS[self]

    def names(self, genres: Sequence[str]) -> tuple[str, ...]:
        """Feature names in column order, for a catalogue of these genres."""
        return tuple(feature.name for group in self.groups for feature in group.features_for(genres))

    def hash(self, genres: Sequence[str]) -> str:
        """Identifies groups, their versions, names and order: the first 16 hex digits of a sha256."""
        lines = [
            f"{group.NAME} {group.VERSION}: {feature.name}"
            for group in self.groups
            for feature in group.features_for(genres)
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


_REFERENCE: Final = (UserFeatures, MovieFeatures, RetrievalFeatures)
_GROUPS: Final[Mapping[FeatureSet, tuple[type[FeatureGroup], ...]]] = MappingProxyType(
    {
        FeatureSet.REFERENCE: _REFERENCE,
        FeatureSet.EXTENDED: (
            *_REFERENCE,
            PlaceFeatures,
            SourceFeatures,
            TransitionFeatures,
            NeighbourFeatures,
            FactorFeatures,
            TimeFeatures,
            GenreFeatures,
        ),
        FeatureSet.UNTIMED: (*_REFERENCE, PlaceFeatures, SourceFeatures, GenreFeatures),
    }
)
