"""What the gateway counts beside what every server counts. Labels are bounded: never an id."""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.fallback import Model
from serving.rpc.metrics import LATENCY_BUCKETS, PREFIX
from serving.stages.stage import FAULTS, FallbackReason, StageName

OK: Final = "OK"
"""Value of the label `outcome` of a stage call that gave a usable answer."""
DEFECT: Final = "DEFECT"
"""Value of the label `outcome` for a status that says that one of us is wrong: kept at zero."""
CANCELLED: Final = "CANCELLED"
"""Value of the label `outcome` for a call that the client no longer waited for."""
_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 100)


class Method(StrEnum):
    """Values of the metric label `method`: the rpc that a list answers."""

    POPULAR = "ListPopularMovies"
    PERSONAL = "ListPersonalMovies"
    BATCH = "BatchListPersonalMovies"
    SIMILAR = "ListSimilarMovies"
    WHY = "WhyMovie"


@dataclass(frozen=True)
class GatewayMetrics:
    """How stages answer, and what becomes of lists."""

    stage_seconds: Histogram
    """Time of a stage call, by stage and outcome: OK or the reason of the step down.

    What a query waits before its call is not part of it: this is what the stage and the way there take.
    """
    stage_wait_seconds: Histogram
    """Time that a caller waits before its call leaves, by stage whose calls are shared."""
    stage_batch_size: Histogram
    """Queries that share one call, by stage whose calls are shared."""
    breaker_open: Gauge
    """1 while calls to a stage are refused as it keeps failing, else 0, by service; shards add up."""
    answers: Counter
    """Lists answered, by method and model."""
    degraded: Counter
    """Lists that a fault made weaker, by method."""
    fallbacks: Counter
    """Lists that are not what was asked for, by the service at issue and the reason."""
    unknown_items: Counter
    """Movies that a stage named and that the catalogue or ranking does not know."""

    @classmethod
    def create(cls, registry: CollectorRegistry) -> "GatewayMetrics":
        """Metrics at zero, every series of them: to Prometheus, one that begins with 1 has not grown."""
        counter = partial(Counter, namespace=PREFIX, registry=registry)
        gauge = partial(Gauge, namespace=PREFIX, registry=registry)
        histogram = partial(Histogram, namespace=PREFIX, registry=registry)
        metrics = cls(
            stage_seconds=histogram(
                "stage_seconds", "Time of a stage call.", ("stage", "outcome"), buckets=LATENCY_BUCKETS
            ),
            stage_wait_seconds=histogram(
                "stage_wait_seconds", "Wait before a stage call.", ("stage",), buckets=LATENCY_BUCKETS
            ),
            stage_batch_size=histogram(
                "stage_batch_size", "Queries in a stage call.", ("stage",), buckets=_BATCH_SIZES
            ),
            breaker_open=gauge("breaker_open", "Whether a stage is left alone.", ("service",)),
            answers=counter("answers", "Lists answered.", ("method", "model")),
            degraded=counter("degraded", "Lists weakened by a fault.", ("method",)),
            fallbacks=counter("fallbacks", "Lists that are not what was asked for.", ("service", "reason")),
            unknown_items=counter("unknown_items", "Movies dropped as unknown."),
        )
        for stage, outcome in product(StageName, (OK, DEFECT, CANCELLED, *FAULTS)):
            metrics.stage_seconds.labels(stage, outcome)
        for method, model in product(Method, Model):
            metrics.answers.labels(method, model)
        for stage, reason in product(StageName, FallbackReason):
            metrics.fallbacks.labels(stage, reason)
        for method in Method:
            metrics.degraded.labels(method)
        return metrics
