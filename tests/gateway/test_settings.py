"""Settings that only the gateway has: what does not fit together is refused at the start."""

import pytest

from gateway.settings import GatewaySettings
from serving.settings import load_settings


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVIEREC_GATEWAY_BUNDLE_ROOT", "/bundles")


NO_TIME = "input should be greater than 0"
NO_NUMBER = "input should be a valid number, unable to parse string as a number"
NO_REST = "should be less than request_seconds and batch_seconds"


@pytest.mark.parametrize(
    ("variable", "value", "named", "rule"),
    [
        ("REQUEST_SECONDS", "0.02", "RESERVE_SECONDS", NO_REST),
        ("BATCH_SECONDS", "0.001", "RESERVE_SECONDS", NO_REST),
        ("RESERVE_SECONDS", "0.8", "RESERVE_SECONDS", NO_REST),
        ("REQUEST_SECONDS", "soon", "REQUEST_SECONDS", NO_NUMBER),
        *((f"{stage}_SECONDS", "0", f"{stage}_SECONDS", NO_TIME) for stage in ("CANDIDATE", "RANKING")),
        ("SIMILARITY_SECONDS", "0", "SIMILARITY_SECONDS", NO_TIME),
    ],
)
def test_a_time_that_is_none_or_leaves_none_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    *,
    named: str,
    rule: str,
) -> None:
    monkeypatch.setenv(f"MOVIEREC_GATEWAY_{variable}", value)
    with pytest.raises(SystemExit) as stopped:
        load_settings(GatewaySettings)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"MOVIEREC_GATEWAY_{named}: {rule}"
