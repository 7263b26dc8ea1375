"""How much a linear model of likes expects the candidate, given what the user likes and liked last."""

from typing import ClassVar

from serving.features.ease_likes import EaseLikesFeatures
from serving.features.group import Feature


class EaseFeatures(EaseLikesFeatures):
    """EASE's weights from the movies that the user likes, and from those that they liked last, added up."""

    NAME: ClassVar = "ease"
    VERSION: ClassVar = 1
    FEATURES: ClassVar[tuple[Feature, ...]] = (
        *EaseLikesFeatures.FEATURES,
        Feature(
            "ease_last10",
            "liked by those who like {movie}",
            "not expected of one with your last 10 likes",
        ),
    )
