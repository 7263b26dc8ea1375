"""The state of the system as a message of the public API."""

from typing import Final

from gateway.bundle_report import BundleReport
from gateway.codec import REASONS
from gateway.lists.catalogue import Catalogue
from gateway.movie_api import StatusAnswer
from gateway.stages.monitor import StageStatus
from movierec.gateway.v1 import movie_service_pb2 as public

_METRICS: Final = frozenset({"ndcg_at_10", "recall_at_10", "coverage_at_10"})
"""Those that are shown."""


def encode_status(status: StatusAnswer) -> public.GetStatusResponse:
    """The answer as a message."""
    current, *previous = status.catalogues
    response = public.GetStatusResponse(
        bundle=_bundle(current),
        previous_bundle=_bundle(previous[0]) if previous else None,
        stages=map(_stage, status.stages),
        models=[public.ModelCount(model=model, count=count) for model, count in status.mix.counts.items()],
        degraded_count=status.mix.degraded,
        window_seconds=status.mix.seconds,
        personal_p95_seconds=status.mix.personal_p95_seconds,
    )
    response.serve_time.FromMilliseconds(int(status.since * 1_000))
    return response


def _stage(status: StageStatus) -> public.StageStatus:
    return public.StageStatus(
        stage=status.stage,
        serving=status.serving,
        breaker_open=status.breaker_reason is not None,
        breaker_reason=REASONS[status.breaker_reason],
        bundle_id=status.bundle_id,
    )


def _bundle(catalogue: Catalogue) -> public.ServedBundle:
    report = catalogue.report
    quality = report.quality
    return public.ServedBundle(
        bundle_id=catalogue.bundle_id,
        dataset_tag=report.dataset_tag,
        protocol=report.protocol,
        judged_users=None if quality is None else quality.judged_users,
        models=[
            _model(report, model) for model, metrics in report.metrics.items() if metrics.keys() >= _METRICS
        ],
        warnings=() if quality is None else quality.warnings,
    )


def _model(report: BundleReport, model: str) -> public.ModelQuality:
    metrics = report.metrics[model]
    interval = None if report.quality is None else report.quality.ndcg_at_10.get(model)
    low, high = (None, None) if interval is None else interval
    return public.ModelQuality(
        model=model,
        ndcg_at_10=metrics["ndcg_at_10"],
        ndcg_at_10_low=low,
        ndcg_at_10_high=high,
        recall_at_10=metrics["recall_at_10"],
        coverage_at_10=metrics["coverage_at_10"],
    )
