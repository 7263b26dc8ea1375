"""What the other sources than ALS think of a candidate."""

from typing import ClassVar

import numpy as np
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.sources import Source


class SourceFeatures(FeatureGroup):
    """Reciprocal ranks of the candidate by the sources beside ALS; 0 where a source does not offer it.

    The rank by ALS is `als_rank`: every candidate has one, as every candidate has an ALS score.
    """

    NAME: ClassVar = "sources"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature(
            "transitions_reciprocal_rank",
            "number {rank} of what is rated soon after your last movies",
            "not among what is rated most soon after your last movies",
        ),
        Feature(
            "popularity_reciprocal_rank",
            "number {rank} of the most popular movies",
            "not among the most popular movies",
        ),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        out[:] = 0
        for query, rows in call.parts:
            for column, source in zip(out, (Source.TRANSITIONS, Source.POPULARITY), strict=True):
                ranks = query.source_ranks.get(source)
                if ranks is not None:
                    column[rows] = (ranks > 0) / np.maximum(ranks, 1)

    @override
    def phrase(self, feature: Feature, value: float | None, n_candidates: int) -> str:
        if value is None or value <= 0:
            return super().phrase(feature, value, n_candidates)
        return feature.phrase.format(rank=round(1 / value))
