"""What stage one thinks of a candidate."""

from typing import ClassVar

from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup


class RetrievalFeatures(FeatureGroup):
    """The score that the candidate was retrieved by."""

    NAME: ClassVar = "retrieval"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature("als_score", "{value:.2f} by ALS, where 1 would be a sure like", "not to your taste, by ALS"),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        for query, rows in call.parts:
            out[:, rows] = query.retrieval_scores
