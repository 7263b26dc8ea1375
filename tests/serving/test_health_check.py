"""The health check of a container, against real servers: plain, with TLS, not serving, not there."""

import asyncio
from pathlib import Path

import pytest

from serving.rpc import health_check
from tests.serving.authority import Authority
from tests.serving.server_under_test import running_server

OURS = Authority()


async def check(monkeypatch: pytest.MonkeyPatch, port: int, **values: str | Path) -> int:
    """Its exit status, with these settings of a process."""
    settings = {"bundle_root": "nowhere", "port": port, "metrics_port": 0, **values}
    for name, value in settings.items():
        monkeypatch.setenv(f"MOVIEREC_THING_{name.upper()}", str(value))
    return await asyncio.to_thread(health_check.main, ["thing", "--timeout", "5"])


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104  # what a container listens on
async def test_a_server_that_serves_is_healthy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    async with running_server() as server:
        assert await check(monkeypatch, server.port, host=host) == 0


async def test_a_server_without_a_bundle_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_server(never) as server:
        assert await check(monkeypatch, server.port) == 1
    assert "NOT_SERVING" in capsys.readouterr().out.splitlines()


async def test_no_server_is_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_server() as server:
        port = server.port
    assert await check(monkeypatch, port) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"no answer on port {port}: UNAVAILABLE"


@pytest.mark.parametrize("mutual", [False, True])
async def test_it_speaks_tls_with_the_servers_own_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, mutual: bool
) -> None:
    settings = OURS.issue(tmp_path, "candidate", "localhost").server_settings(mutual=mutual)
    async with running_server(**settings) as server:
        assert await check(monkeypatch, server.port, **settings) == 0


async def test_a_certificate_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"tls_certificate_file": tmp_path / "none", "tls_key_file": tmp_path / "none"}
    assert await check(monkeypatch, 1, **settings) == 1
    assert capsys.readouterr().out.startswith("MOVIEREC_THING_TLS_CERTIFICATE_FILE: cannot read")


def test_a_process_without_settings_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        health_check.main(["thing"])
    assert stopped.value.code == 2
    assert "MOVIEREC_THING_PORT: is required" in capsys.readouterr().err
