"""What is rated after what."""

from typing import ClassVar

from serving.features.group import Feature
from serving.features.links import LinkFeatures


class TransitionFeatures(LinkFeatures):
    """How often the candidate is rated soon after the movies that the user rated last."""

    NAME: ClassVar = "transitions"
    VERSION: ClassVar = 1
    LAST: ClassVar = (1, 5, 10)
    FEATURES: ClassVar = (
        Feature("trans_last1", "often rated soon after {movie}", "seldom rated soon after your last movie"),
        Feature(
            "trans_last5", "often rated soon after {movie}", "seldom rated soon after your last 5 movies"
        ),
        Feature(
            "trans_last10", "often rated soon after {movie}", "seldom rated soon after your last 10 movies"
        ),
    )
