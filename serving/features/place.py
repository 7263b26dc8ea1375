"""A candidate's place in the list of candidates."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup, FeatureQuery
from serving.features.statistics import mean_and_deviation
from serving.retrieval import best_first


class PlaceFeatures(FeatureGroup):
    """Rank and standardised score among the candidates; they do not depend on the scale of ALS scores."""

    NAME: ClassVar = "place"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature("als_rank", "{rank} of {n_candidates} by ALS"),
        Feature(
            "als_z",
            "an ALS score {value:.1f} standard deviations above the candidates' mean",
            "an ALS score {value:.1f} standard deviations below the candidates' mean",
        ),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        ranks, standardised = out
        for query, rows in call.parts:
            ranks[rows] = _ranks(query)
            standardised[rows] = _standardised(query)

    @override
    def phrase(self, feature: Feature, value: float | None, n_candidates: int) -> str:
        if feature.name != "als_rank" or value is None:
            return super().phrase(feature, value, n_candidates)
        rank = int(value)
        if rank > n_candidates:
            return f"{_ordinal(rank)} by ALS, behind the {n_candidates} candidates"
        return feature.phrase.format(rank=_ordinal(rank), n_candidates=n_candidates)


def _ranks(query: FeatureQuery) -> npt.NDArray[np.int64]:
    """Places from 1, ties to the lower movie row."""
    if query.probe_context is not None:
        return query.probe_context.ranks
    ranks = np.empty(query.movie_rows.size, np.int64)
    ranks[best_first(query.retrieval_scores, query.movie_rows)] = np.arange(1, ranks.size + 1)
    return ranks


def _standardised(query: FeatureQuery) -> npt.NDArray[np.floating]:
    """Scores in standard deviations from the mean of the list's; all 0 without a list."""
    scores = query.retrieval_scores
    listed = scores if query.probe_context is None else query.probe_context.list_scores
    if not listed.size:
        return np.zeros(scores.size)
    mean, deviation = mean_and_deviation(listed.astype(np.float64), degrees_of_freedom=listed.size)
    return (scores - mean) / (deviation or np.float64(1))


def _ordinal(rank: int) -> str:
    """As 1st, 2nd, 11th."""
    ending = "th" if rank // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"
