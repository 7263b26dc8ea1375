"""Bad settings name their variable in one line; good ones are read."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from candidate_service.settings import CandidateSettings
from gateway.settings import GatewaySettings
from ranking_service.settings import RankingSettings
from serving.settings import ServerSettings, load_settings
from similarity_service.settings import SimilaritySettings

PREFIX = "MOVIEREC_TEST_"


class ProcessSettings(ServerSettings):
    """Those of a process that does nothing."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    port: int = 1
    """A port."""
    metrics_port: int = 2
    """Another."""


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}BUNDLE_ROOT", "/bundles")


def test_defaults_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(ProcessSettings)
    assert (settings.bundle_root, settings.host) == (Path("/bundles"), "127.0.0.1")
    assert (settings.reflection, settings.log_level) == (True, "info")
    with pytest.raises(ValidationError):
        settings.host = "elsewhere"
    environment = {"LOG_LEVEL": "WARNING", "REFLECTION": "false", "DRAIN_DELAY_SECONDS": "0.5", "HOST": ""}
    for name, value in environment.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    settings = load_settings(ProcessSettings)
    assert (settings.log_level, settings.reflection) == ("warning", False)
    assert (settings.drain_delay_seconds, settings.host) == (0.5, "127.0.0.1")  # empty is unset


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bundle_root", None),
        ("bundle_root", ""),
        ("port", "abc"),
        ("port", "1.5"),
        ("port", "tcp://10.0.0.1:50052"),  # what Kubernetes injects for a Service of that name
        ("metrics_port", "-1e9x"),
        ("reflection", "perhaps"),
        ("reflection", "2"),
        ("log_level", "loud"),
        ("log_level", "10"),
        ("drain_delay_seconds", "-1"),
        ("drain_delay_seconds", "soon"),
        ("drain_delay_seconds", "nan"),
        ("drain_seconds", "inf"),
        ("drain_seconds", "1e9"),
        ("bundle_poll_seconds", "0"),
        ("bundle_poll_seconds", "1s"),
        ("max_request_bytes", "0"),
        ("max_request_bytes", "4MiB"),
    ],
)
def test_bad_setting_exits_2_and_names_its_variable(
    field: str, value: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variable = f"{PREFIX}{field.upper()}"
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as exit_:
        load_settings(ProcessSettings)
    assert exit_.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(variable)
    assert line.count("\n") == 1
    if value and len(value) > 1:
        assert value not in line.removeprefix(variable)  # it may be a secret in the wrong place


@pytest.mark.row(39)
def test_all_bad_settings_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{PREFIX}PORT", "x")
    monkeypatch.setenv(f"{PREFIX}REFLECTION", "x")
    with pytest.raises(SystemExit):
        load_settings(ProcessSettings)
    line = capsys.readouterr().err
    assert f"{PREFIX}PORT: " in line
    assert f"{PREFIX}REFLECTION: " in line


def test_every_field_is_documented() -> None:
    for settings_class in (GatewaySettings, CandidateSettings, RankingSettings, SimilaritySettings):
        for name, field in settings_class.model_fields.items():
            assert field.description, name
