"""What is rated by the same users."""

from typing import ClassVar

from serving.features.group import Feature
from serving.features.links import LinkFeatures, last


class NeighbourFeatures(LinkFeatures):
    """How often the candidate is rated by the same users as the movies that the user rated last."""

    NAME: ClassVar = "neighbours"
    VERSION: ClassVar = 1
    SHARES: ClassVar = (last(5), last(10))
    FEATURES: ClassVar = (
        Feature(
            "knn_last5",
            "often rated by those who rated {movie}",
            "seldom rated by those who rated your last 5 movies",
        ),
        Feature(
            "knn_last10",
            "often rated by those who rated {movie}",
            "seldom rated by those who rated your last 10 movies",
        ),
    )
