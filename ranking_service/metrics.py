"""What the ranking service counts besides calls."""

from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter

from ranking_service.ranking import Ranking
from serving.features.sets import ALL_GROUPS
from serving.rpc.metrics import PREFIX


class RankingMetrics:
    """Signs that the stages, or training and serving, drift apart. All begin at zero.

    Args:
        registry: the server's.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, namespace=PREFIX, registry=registry)
        missing_features = counter("missing_features", "Feature values that were missing.", ("feature",))
        self._missing = cache(missing_features.labels)  # looking a label up costs more than counting
        self._unknown_items = counter("unknown_items", "Candidates without features.")
        for group in ALL_GROUPS:
            for feature in group.FEATURES:
                self._missing(feature.name)

    def count(self, ranking: Ranking) -> None:
        """Adds one answer."""
        for feature, n_missing in ranking.missing_features.items():
            self._missing(feature).inc(n_missing)
        self._unknown_items.inc(sum(ranked.unknown_movie_ids.size for ranked in ranking.lists))
