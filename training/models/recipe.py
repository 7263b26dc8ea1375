"""How a two-stage recommender is trained."""

from dataclasses import dataclass

from serving.features.sets import FeatureSet
from serving.fold_in import AlsParameters
from training.evaluation.splits import Protocol
from training.models.ranker import RankerParameters


@dataclass(frozen=True)
class Recipe:
    """How a two-stage recommender is trained: all that decides what comes out, but for the ratings."""

    als: AlsParameters
    ranker: RankerParameters
    feature_set: FeatureSet
    protocol: Protocol
    """The ranker's labels are cut as the evaluation cuts its future."""
    seed: int
    threads: int
    """Of ALS and CatBoost; part of the recipe, as CatBoost's result depends on it."""
    choose_regularization: bool = False
    """Whether λ of ALS is chosen on a validation part: that of `als` is where the grid begins, and then what
    was found."""
