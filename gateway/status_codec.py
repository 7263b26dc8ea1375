"""The state of the system as a message of the public API."""

from typing import Final

from gateway.codec import REASONS
from gateway.lists.catalogue import Catalogue
from gateway.movie_api import StatusAnswer
from gateway.stages.monitor import StageStatus
from movierec.gateway.v1 import movie_service_pb2 as public
from serving.bundle.manifest import Manifest

_METRICS: Final = frozenset({"ndcg_at_10", "recall_at_10", "coverage_at_10"})
"""Those that are shown; the public message has the same names."""


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
    manifest, quality = catalogue.manifest, catalogue.manifest.quality
    return public.ServedBundle(
        bundle_id=catalogue.bundle_id,
        dataset_tag=manifest.dataset_tag,
        protocol=str(manifest.recipe.get("protocol", "")),
        judged_users=None if quality is None else quality.judged_users,
        models=[
            _model(manifest, model)
            for model, metrics in manifest.metrics.items()
            if metrics.keys() >= _METRICS
        ],
        warnings=() if quality is None else quality.warnings,
    )


def _model(manifest: Manifest, model: str) -> public.ModelQuality:
    intervals = {} if manifest.quality is None else manifest.quality.ndcg_at_10
    low, high = intervals.get(model, (None, None))
    return public.ModelQuality(
        model=model,
        ndcg_at_10_low=low,
        ndcg_at_10_high=high,
        **{name: manifest.metrics[model][name] for name in _METRICS},
    )
