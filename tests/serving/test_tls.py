"""TLS and mutual TLS between real servers and channels: right, none, wrong, expired, replaced."""

import asyncio
import re
import shutil
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from grpc import aio

from gateway.settings import GatewaySettings
from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel
from serving.rpc.tls import ServerFiles, client_credentials
from serving.settings import StartError
from tests.serving.authority import Authority
from tests.serving.server_under_test import running_server, settings, until

HOST = "127.0.0.1"
OK = grpc.StatusCode.OK
REFUSED = grpc.StatusCode.UNAVAILABLE


OURS = Authority()
THEIRS = Authority()


def gateway_credentials(**values: Any) -> grpc.ChannelCredentials | None:
    """What a gateway with these settings calls stages with."""
    return client_credentials(GatewaySettings(bundle_root=Path("nowhere"), **values), "stage")


async def ask(port: int, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """How a call on a new connection ends."""
    async with open_channel(f"{HOST}:{port}", credentials) as channel:
        try:
            await pb_grpc.SimilarityServiceStub(channel).FindSimilarMovies(
                pb.FindSimilarMoviesRequest(), timeout=30
            )
        except aio.AioRpcError as error:
            return error.code()
    return OK


@pytest.mark.row(54)
async def test_mutual(tmp_path: Path) -> None:
    server = OURS.issue(tmp_path / "server", HOST)
    client = OURS.issue(tmp_path / "client", "gateway")
    late = OURS.issue(tmp_path / "late", "gateway", expired=True)
    stranger = THEIRS.issue(tmp_path / "stranger", "gateway")
    right = client.stage_settings()
    refused: dict[str, dict[str, Path]] = {
        "plain text": {},
        "no certificate": {"stage_ca_file": client.authority},
        "one of another authority": {**stranger.stage_settings(), "stage_ca_file": client.authority},
        "an expired one": late.stage_settings(),
        "trust in another authority": {**right, "stage_ca_file": stranger.authority},
    }
    async with running_server(**server.server_settings()) as under_test:
        assert await ask(under_test.port, gateway_credentials(**right)) == OK
        for case, values in refused.items():
            assert await ask(under_test.port, gateway_credentials(**values)) == REFUSED, case


async def test_clients_check_the_server(tmp_path: Path) -> None:
    servers = {
        OURS.issue(tmp_path / "right", HOST): OK,
        OURS.issue(tmp_path / "late", HOST, expired=True): REFUSED,
        OURS.issue(tmp_path / "misnamed", "another.host"): REFUSED,
    }
    for server, code in servers.items():
        async with running_server(**server.server_settings(mutual=False)) as under_test:
            credentials = gateway_credentials(stage_ca_file=server.authority)
            assert await ask(under_test.port, credentials) == code, server.folder.name


async def test_a_comment_beside_a_certificate_may_be_in_any_script(tmp_path: Path) -> None:
    """OpenSSL and gRPC pass over it; the file was said to hold no certificates."""
    server = OURS.issue(tmp_path, HOST)
    for path in (server.authority, server.server_settings()["tls_certificate_file"]):
        path.write_bytes("# Főtanúsítvány\n".encode() + path.read_bytes())
    async with running_server(**server.server_settings(mutual=False)) as under_test:
        assert await ask(under_test.port, gateway_credentials(stage_ca_file=server.authority)) == OK


@pytest.mark.row(54)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_nothing_older_than_tls_1_2(tmp_path: Path) -> None:
    server = OURS.issue(tmp_path, HOST)
    context = ssl.create_default_context(cafile=server.authority)
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # by itself, OpenSSL would not even try an older one
    async with running_server(**server.server_settings(mutual=False)) as under_test:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection(HOST, under_test.port, ssl=context)
        writer.close()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(HOST, under_test.port, ssl=context)


@pytest.mark.row(54)
async def test_replaced_under_load(tmp_path: Path) -> None:
    # To another authority, by way of trusting both; the files one by one, as a mounted Secret would not.
    server = OURS.issue(tmp_path / "server", HOST)
    successor = THEIRS.issue(tmp_path / "successor", HOST)
    old, new = OURS.issue(tmp_path / "old", "gateway"), THEIRS.issue(tmp_path / "new", "gateway")
    both = tmp_path / "both.crt"
    both.write_bytes(old.authority.read_bytes() + new.authority.read_bytes())
    trust_both = {"stage_ca_file": both}
    codes: list[grpc.StatusCode] = []

    async def call_all_the_time(port: int) -> None:
        while True:  # each call on a connection of its own, so that each shakes hands
            codes.append(await ask(port, gateway_credentials(**old.stage_settings() | trust_both)))

    async def some_calls() -> None:
        enough = len(codes) + 5
        await until(lambda: len(codes) >= enough)

    async with running_server(**server.server_settings()) as under_test:
        calls = [asyncio.create_task(call_all_the_time(under_test.port)) for _ in range(2)]
        with structlog.testing.capture_logs() as logs:
            for source, target in (
                (both, server.authority),
                (successor.certificate, server.certificate),
                (successor.key, server.key),
            ):
                await some_calls()
                shutil.copyfile(source, target)
            await some_calls()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert set(codes) == {OK}
        # The certificate without the key that belongs to it was never shown.
        assert {"certificates reloaded", "certificates not reloaded"} <= {line["event"] for line in logs}

        pinned = {**new.stage_settings(), "stage_ca_file": successor.certificate}
        assert await ask(under_test.port, gateway_credentials(**pinned)) == OK
        shutil.copyfile(successor.authority, server.authority)
        assert await ask(under_test.port, gateway_credentials(**pinned)) == OK
        assert await ask(under_test.port, gateway_credentials(**old.stage_settings() | trust_both)) == REFUSED


def test_a_file_that_goes_away_changes_nothing_and_is_told_of_each_time(tmp_path: Path) -> None:
    server = OURS.issue(tmp_path, HOST)
    files = ServerFiles.of(settings(**server.server_settings()))
    assert files is not None
    files.read()
    assert files.read_if_changed() is None
    elsewhere = tmp_path / "elsewhere"
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            server.key.rename(elsewhere)
            assert files.read_if_changed() is None
            assert files.read_if_changed() is None  # as before the next handshake: said once
            elsewhere.rename(server.key)
            assert files.read_if_changed() is None
    assert [line["event"] for line in logs] == ["certificates not reloaded"] * 2
    assert "TLS_KEY_FILE: cannot read" in logs[0]["problem"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tls_key_file": None}, "TLS_KEY_FILE: is required with TLS_CERTIFICATE_FILE"),
        ({"tls_certificate_file": None}, "TLS_CERTIFICATE_FILE: is required with TLS_KEY_FILE"),
        (
            {"tls_certificate_file": None, "tls_key_file": None},
            "TLS_CLIENT_CA_FILE: needs TLS_CERTIFICATE_FILE too",
        ),
        ({"tls_key_file": Path("/nowhere")}, "TLS_KEY_FILE: cannot read /nowhere: No such file or directory"),
        ({"tls_certificate_file": Path(__file__)}, f"TLS_CERTIFICATE_FILE: {re.escape(__file__)} is not PEM"),
        ({"tls_client_ca_file": "tls.key"}, "TLS_CLIENT_CA_FILE: .* holds no certificates in PEM"),
        ({"tls_certificate_file": "tls.key"}, "TLS_CERTIFICATE_FILE: .* holds no certificates in PEM"),
        ({"tls_key_file": "other.key"}, "TLS_KEY_FILE: .* is not the unencrypted private key of .*"),
        ({"tls_key_file": "locked.key"}, "TLS_KEY_FILE: .* is not the unencrypted private key of .*"),
    ],
)
async def test_files_that_a_server_cannot_start_with(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    identity = OURS.issue(tmp_path, HOST)
    (tmp_path / "other.key").write_bytes(OURS.ca.issue_cert(HOST).private_key_pem.bytes())
    (tmp_path / "locked.key").write_bytes(locked(identity.key.read_bytes()))
    files = {name: tmp_path / value if isinstance(value, str) else value for name, value in changed.items()}
    with pytest.raises(StartError, match=f"^{message}$"):
        async with running_server(**identity.server_settings() | files):
            pass


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stage_ca_file": None}, "GATEWAY_STAGE_CERTIFICATE_FILE: needs MOVIEREC_GATEWAY_STAGE_CA_FILE too"),
        ({"stage_key_file": None}, "GATEWAY_STAGE_KEY_FILE: is required with MOVIEREC_GATEWAY_STAGE_CERT.*"),
        ({"stage_ca_file": Path("/nowhere")}, "GATEWAY_STAGE_CA_FILE: cannot read /nowhere: No such .*"),
    ],
)
def test_files_that_a_gateway_cannot_start_with(
    tmp_path: Path, changed: dict[str, Path | None], message: str
) -> None:
    identity = OURS.issue(tmp_path, HOST)
    with pytest.raises(StartError, match=f"^MOVIEREC_{message}$"):
        gateway_credentials(**identity.stage_settings() | changed)


def locked(key: bytes) -> bytes:
    """The key with a passphrase."""
    private = serialization.load_pem_private_key(key, None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
