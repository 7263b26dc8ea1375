"""How a two-stage recommender is trained."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from serving.features.sets import FeatureGroups
from serving.fold_in import AlsParameters, Confidence
from serving.limits import DEFAULT_CANDIDATES
from serving.ratings import LIKED
from serving.sources import ALS_ALONE, SourceWeights
from training.evaluation.splits import SplitProtocol

RULES: Final = 3
"""How a recipe is followed: counts up when the same data and recipe give another bundle.

2: ADR 0050. 3: losses are compared by smoothed means; a wrong clock does not say when ratings end.
"""

REFERENCE_PARAMETERS: Final = AlsParameters(
    factors=128, iterations=20, regularization=0.01, alpha=15.0, confidence=Confidence.LINEAR
)
"""The reference's preset, for comparison: below plain popularity wherever we measured it."""

DEFAULT_PARAMETERS: Final = AlsParameters(
    factors=128, iterations=15, regularization=30.0, alpha=5.0, confidence=Confidence.LIKES
)
"""What is trained when nothing else is asked for."""


class Loss(StrEnum):
    """What the ranker minimises."""

    YETI_RANK = "YetiRank"
    """Pairwise, weighted by place (the reference's)."""
    LOGLOSS = "Logloss"
    """Pointwise: like or not."""


@dataclass(frozen=True)
class RankerParameters:
    """How the ranker is trained."""

    iterations: int = 1_200
    """Trees at the most."""
    learning_rate: float = 0.1
    depth: int = 4
    negatives: int = 25
    """Unliked candidates kept per group, at random."""
    max_users: int = 10_000
    """Groups at the most, of all inner cuts together, at random."""
    only_loss: Loss | None = None
    """The loss; None: Logloss, and YetiRank where it is better and `selection_seconds` allow to try it."""
    early_stopping_rounds: int | None = None
    """Trees without a higher nDCG@10 of the validation part that end a fit; None: none ends early."""
    relevance_threshold: float = LIKED
    """Stars from which a rating is a positive label. What is judged counts likes, whatever this says."""
    selection_seconds: float = 30.0
    """Processor seconds that trying groups of features and YetiRank may take; estimated from numbers of rows,
    features and trees. A clock would choose otherwise on another machine, or on a busy one."""


def default_ranker(n_ratings: int) -> RankerParameters:
    """What is trained when nothing else is asked for: the more ratings, the more seconds for choosing."""
    return RankerParameters(selection_seconds=min(max(30.0, n_ratings / 10_000), 300.0))


@dataclass(frozen=True)
class Recipe:
    """How a two-stage recommender is trained: all that decides what comes out, but for the ratings."""

    als: AlsParameters
    ranker: RankerParameters
    feature_groups: FeatureGroups
    """What the ranker sees."""
    protocol: SplitProtocol
    """The ranker's labels are cut as the evaluation cuts its future."""
    seed: int
    threads: int
    """Of CatBoost, ALS and links; part of the recipe, as CatBoost's result depends on it."""
    choose_regularization: bool = False
    """Whether λ of ALS is chosen on a validation part: that of `als` is where the grid begins, and then what
    was found."""
    sources: SourceWeights = ALS_ALONE
    """How much each source of candidates weighs."""
    least_history: int = 0
    """Ratings below which a user gets what is popular."""
    choose_sources: bool = False
    """Whether `sources` and `least_history` are chosen on a validation part, and then what was found."""
    choose_features: bool = False
    """Whether groups of features that do not pay are left out: `feature_groups` are those to choose from, and
    then those that were kept."""
    n_candidates: int = DEFAULT_CANDIDATES
    """Movies that stage one hands to stage two for a user, in training and in serving alike."""
