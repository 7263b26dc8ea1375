"""What the ranking service counts besides calls."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial

from prometheus_client import CollectorRegistry, Counter

from ranking_service.ranking import Ranking
from serving.features.sets import FeatureSet
from serving.rpc.metrics import PREFIX


@dataclass(frozen=True)
class RankingMetrics:
    """Signs that the stages, or training and serving, drift apart."""

    missing_features: Counter
    """Values that the ranker did not see, by feature."""
    unknown_items: Counter
    """Candidates that the bundle does not know."""

    @classmethod
    def create(cls, registry: CollectorRegistry) -> "RankingMetrics":
        """Metrics at zero on the server's registry."""
        counter = partial(Counter, namespace=PREFIX, registry=registry)
        metrics = cls(
            missing_features=counter("missing_features", "Feature values that were missing.", ("feature",)),
            unknown_items=counter("unknown_items", "Candidates without features."),
        )
        for group in FeatureSet.EXTENDED.groups:  # holds those of the other sets too
            for feature in group.FEATURES:
                metrics.missing_features.labels(feature.name)
        return metrics

    def count(self, ranking: Ranking) -> None:
        """Adds one answer."""
        for feature, n_missing in ranking.missing_features.items():
            self._missing(feature).inc(n_missing)
        self.unknown_items.inc(sum(ranked.unknown_movie_ids.size for ranked in ranking.lists))

    @cached_property
    def _missing(self) -> Callable[[str], Counter]:
        return cache(self.missing_features.labels)  # looking a label up costs more than counting
