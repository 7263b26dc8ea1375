"""What is counted can be told from what is not there: every series begins at zero."""

import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("stage_seconds_count", {"stage": "ranking", "outcome": "DEFECT"}),
        ("answers_total", {"method": "ListPersonalMovies", "model": "two_stage"}),
        ("degraded_total", {"method": "WhyMovie"}),
        ("fallbacks_total", {"service": "ranking", "reason": "BUNDLE_MISMATCH"}),
        ("unknown_items_total", {}),
    ],
)
def test_series_begin_at_zero(name: str, labels: dict[str, str]) -> None:
    registry = CollectorRegistry()
    GatewayMetrics.create(registry)
    assert registry.get_sample_value(f"movierec_{name}", labels) == 0
