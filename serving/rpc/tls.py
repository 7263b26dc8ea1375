"""TLS by setting: what a server shows and whom it lets in, whom a client trusts and what it shows.

TLS 1.2 is the oldest version that gRPC speaks.
"""

import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import structlog

from serving.settings import ServerSettings, StartError

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)

_Stamps = tuple[tuple[int, int, int], ...]
"""Device, inode and time of change of each file: all that reading needs not to be repeated."""


@dataclass(frozen=True)
class _PemFile:
    """A file that a setting names."""

    path: Path
    variable: str
    """Of the setting, for messages."""

    def read(self) -> bytes:
        """Raises StartError when there is no certificate or key in it."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise StartError(f"{self.variable}: cannot read {self.path}: {error.strerror}") from error
        if b"-----BEGIN " not in content:
            raise StartError(f"{self.variable}: {self.path} is not PEM")
        return content

    def read_certificates(self) -> bytes:
        """Raises StartError when the certificates cannot be read."""
        content = self.read()
        text = content.decode("ascii", errors="backslashreplace")  # a comment may be in any script
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            raise StartError(f"{self.variable}: {self.path} holds no certificates in PEM") from error
        return content


@dataclass(frozen=True)
class _Identity:
    """A certificate, with those between it and its authority, and its private key."""

    certificate: _PemFile
    key: _PemFile

    def read(self) -> tuple[bytes, bytes]:
        """Key and certificates. Raises StartError when they cannot be read or do not belong together."""
        certificates, key = self.certificate.read_certificates(), self.key.read()
        try:
            # A key with a passphrase is refused; without `password`, OpenSSL would ask the terminal for it.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.certificate.path, self.key.path, password=""
            )
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise StartError(
                f"{self.key.variable}: {self.key.path} is not the unencrypted private key of "
                f"{self.certificate.path} ({self.certificate.variable})"
            ) from error
        if (certificates, key) != (self.certificate.read(), self.key.read()):
            raise StartError(f"{self.certificate.variable}: {self.certificate.path} has changed while read")
        return key, certificates


@dataclass
class ServerFiles:
    """What a server shows and whom it lets in, as the files say now.

    gRPC asks before each handshake, on threads of its own. What cannot be read changes nothing, but is
    logged once: whoever replaces the files one by one passes through a moment in which they do not fit.
    """

    identity: _Identity
    client_ca: _PemFile | None
    _stamps: _Stamps = ()
    _problem: str = ""
    """Why the files as they are now cannot be used, as it was logged."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, settings: ServerSettings) -> "ServerFiles | None":
        """Those that the settings name, none for plain text. Raises StartError when one is missing."""
        identity = _identity(settings, "tls_certificate_file", "tls_key_file")
        client_ca = _file(settings, "tls_client_ca_file")
        if identity is not None:
            return cls(identity, client_ca)
        if client_ca is not None:
            raise StartError(f"{client_ca.variable}: needs {settings.variable('tls_certificate_file')} too")
        return None

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Raises StartError when a file is not what its setting needs."""
        stamps = self._current_stamps()
        configuration = grpc.ssl_server_certificate_configuration(
            [self.identity.read()],
            root_certificates=None if self.client_ca is None else self.client_ca.read_certificates(),
        )
        self._stamps = stamps
        return configuration

    def read_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """None: they are as before, or cannot be used."""
        configuration, problem = None, ""
        with self._lock:
            try:
                if self._current_stamps() != self._stamps:
                    configuration = self.read()
                    _logger.info("certificates reloaded", file=str(self.identity.certificate.path))
            except StartError as error:
                problem = str(error)
                if problem != self._problem:
                    _logger.warning("certificates not reloaded", problem=problem)
            self._problem = problem
        return configuration

    def _current_stamps(self) -> _Stamps:
        files = (self.identity.certificate, self.identity.key, self.client_ca)
        return tuple(_stamp(file.path) for file in files if file is not None)


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """What a server listens with; none for plain text, when the settings name no certificate.

    Files that are replaced take effect with the next connection.

    Raises:
        StartError: a file is missing or unusable; the message names its setting.
    """
    files = ServerFiles.of(settings)
    if files is None:
        return None
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.read_if_changed,  # type: ignore[arg-type]  # the stub forgets that it may return None
        require_client_authentication=files.client_ca is not None,
    )


def client_credentials(settings: ServerSettings, prefix: str) -> grpc.ChannelCredentials | None:
    """What a client calls others with; none for plain text, when the settings name no authority.

    Args:
        settings: has the fields `<prefix>_ca_file`, `<prefix>_certificate_file` and `<prefix>_key_file`.
        prefix: whom they are for.

    Raises:
        StartError: a file is missing or unusable; the message names its setting.
    """
    authority = _file(settings, f"{prefix}_ca_file")
    identity = _identity(settings, f"{prefix}_certificate_file", f"{prefix}_key_file")
    if authority is None:
        if identity is not None:
            raise StartError(
                f"{identity.certificate.variable}: needs {settings.variable(f'{prefix}_ca_file')} too"
            )
        return None
    key, certificates = (None, None) if identity is None else identity.read()
    return grpc.ssl_channel_credentials(authority.read_certificates(), key, certificates)


def probe_credentials(settings: ServerSettings) -> grpc.ChannelCredentials | None:
    """What a server's own health probe calls it with; none when it listens in plain text.

    The probe trusts the very certificate that the server shows, and shows the same one. Its name may be any:
    pass one of them as the option `grpc.ssl_target_name_override`.

    Raises:
        StartError: a file is missing or unusable; the message names its setting.
    """
    identity = _identity(settings, "tls_certificate_file", "tls_key_file")
    if identity is None:
        return None
    key, certificates = identity.read()
    return grpc.ssl_channel_credentials(certificates, key, certificates)


def _identity(settings: ServerSettings, certificate: str, key: str) -> _Identity | None:
    certificate_file, key_file = _file(settings, certificate), _file(settings, key)
    if certificate_file is not None and key_file is not None:
        return _Identity(certificate_file, key_file)
    for missing, given in ((certificate, key_file), (key, certificate_file)):
        if given is not None:
            raise StartError(f"{settings.variable(missing)}: is required with {given.variable}")
    return None


def _file(settings: ServerSettings, name: str) -> _PemFile | None:
    path: Path | None = getattr(settings, name)
    return None if path is None else _PemFile(path, settings.variable(name))


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()  # of what a link leads to: Kubernetes replaces the link
    except OSError:
        return (0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_mtime_ns)
