"""Which features a ranker sees: groups in an order, and the sets of them that have a name."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from serving.features.ease import EaseFeatures, EaseLikesFeatures
from serving.features.factors import FactorFeatures
from serving.features.genre import GenreFeatures
from serving.features.group import FeatureGroup
from serving.features.movie import MovieFeatures
from serving.features.pace import PaceFeatures
from serving.features.place import PlaceFeatures
from serving.features.retrieval import RetrievalFeatures
from serving.features.sources import SourceFeatures
from serving.features.time import TimeFeatures
from serving.features.transitions import TransitionFeatures
from serving.features.user import UserFeatures

FeatureGroups: TypeAlias = tuple[type[FeatureGroup], ...]
"""In column order, each once."""


class FeatureSet(StrEnum):
    """Which groups a ranker may see. Training keeps those that pay, unless a set was asked for by name."""

    REFERENCE = "reference"
    """The 38 features of the reference: user, movie, ALS score."""
    COMPACT = "compact"
    """Those, the candidate's place in the list, and its closeness to what the user rated last: more features
    need more users to learn from."""
    EXTENDED = "extended"
    """All features that there are."""
    UNTIMED = "untimed"
    """Those that need neither times nor order: nobody knows which rating was the last."""

    @property
    def groups(self) -> FeatureGroups:
        """The set's groups in column order."""
        return _GROUPS[self]


_REFERENCE: Final = (UserFeatures, PaceFeatures, MovieFeatures, RetrievalFeatures)
_GROUPS: Final[Mapping[FeatureSet, FeatureGroups]] = MappingProxyType(
    {
        FeatureSet.REFERENCE: _REFERENCE,
        FeatureSet.COMPACT: (*_REFERENCE, PlaceFeatures, TransitionFeatures, FactorFeatures),
        FeatureSet.EXTENDED: (
            *_REFERENCE,
            PlaceFeatures,
            SourceFeatures,
            TransitionFeatures,
            FactorFeatures,
            EaseFeatures,
            TimeFeatures,
            GenreFeatures,
        ),
        FeatureSet.UNTIMED: (
            UserFeatures,
            MovieFeatures,
            RetrievalFeatures,
            PlaceFeatures,
            SourceFeatures,
            EaseLikesFeatures,
            GenreFeatures,
        ),
    }
)


ALL_GROUPS: Final[FeatureGroups] = tuple(
    dict.fromkeys((*FeatureSet.EXTENDED.groups, *FeatureSet.UNTIMED.groups))
)
"""Those of any set, each once."""


def groups_of_names(names: Sequence[str]) -> FeatureGroups:
    """The groups of these names.

    Raises:
        ValueError: this version has no group of such a name.
    """
    by_name = {group.NAME: group for group in ALL_GROUPS}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f"this version has no features of the group {', '.join(unknown)}")
    return tuple(by_name[name] for name in names)


def names_of_groups(groups: FeatureGroups) -> tuple[str, ...]:
    """Their names, in column order."""
    return tuple(group.NAME for group in groups)


def feature_names(groups: FeatureGroups, genres: Sequence[str]) -> tuple[str, ...]:
    """Feature names in column order, for a catalogue of these genres."""
    return tuple(feature.name for group in groups for feature in group.features_for(genres))


def feature_hash(groups: FeatureGroups, genres: Sequence[str]) -> str:
    """Identifies groups, their versions, names and order: the first 16 hex digits of a sha256."""
    lines = [
        f"{group.NAME} {group.VERSION}: {feature.name}"
        for group in groups
        for feature in group.features_for(genres)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
