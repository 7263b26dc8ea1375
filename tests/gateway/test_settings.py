"""Settings that only the gateway has: what does not fit together is refused at the start."""

import pytest

from gateway.settings import GatewaySettings
from serving.settings import load_settings


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVIEREC_GATEWAY_BUNDLE_ROOT", "/bundles")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("REQUEST_SECONDS", "0.02"), ("BATCH_SECONDS", "0.001"), ("RESERVE_SECONDS", "0.8")],
)
def test_a_reserve_that_leaves_no_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(f"MOVIEREC_GATEWAY_{variable}", value)
    with pytest.raises(SystemExit) as stopped:
        load_settings(GatewaySettings)
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("MOVIEREC_GATEWAY_RESERVE_SECONDS: ")
    assert "less than request_seconds and batch_seconds" in line


def test_a_bad_time_is_named_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOVIEREC_GATEWAY_REQUEST_SECONDS", "soon")
    with pytest.raises(SystemExit):
        load_settings(GatewaySettings)
    assert capsys.readouterr().err.startswith("MOVIEREC_GATEWAY_REQUEST_SECONDS: ")


@pytest.mark.parametrize("stage", ["CANDIDATE", "RANKING", "SIMILARITY"])
def test_a_stage_without_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    monkeypatch.setenv(f"MOVIEREC_GATEWAY_{stage}_SECONDS", "0")
    with pytest.raises(SystemExit):
        load_settings(GatewaySettings)
    assert capsys.readouterr().err == f"MOVIEREC_GATEWAY_{stage}_SECONDS: input should be greater than 0\n"
