"""What is rated after what."""

from typing import ClassVar

from serving.features.group import Feature
from serving.features.links import LinkFeatures, decayed, last


class TransitionFeatures(LinkFeatures):
    """How often the candidate is rated soon after the movies that the user rated last."""

    NAME: ClassVar = "transitions"
    VERSION: ClassVar = 1
    SHARES: ClassVar = (last(1), last(5), last(10), decayed(0.9, 30))
    FEATURES: ClassVar = (
        Feature("trans_last1", "often rated soon after {movie}", "seldom rated soon after your last movie"),
        Feature(
            "trans_last5", "often rated soon after {movie}", "seldom rated soon after your last 5 movies"
        ),
        Feature(
            "trans_last10", "often rated soon after {movie}", "seldom rated soon after your last 10 movies"
        ),
        Feature(
            "trans_decayed", "often rated soon after {movie}", "seldom rated soon after your last 30 movies"
        ),
    )
