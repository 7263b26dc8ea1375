"""Certificates for tests, laid on disk under the names that Kubernetes gives them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme

EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """With those between it and its authority."""
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.folder / "tls.key"

    @property
    def authority(self) -> Path:
        """Who issued it."""
        return self.folder / "ca.crt"

    def server_settings(self, *, mutual: bool = True) -> dict[str, Any]:
        """Settings of a server that shows it; whose clients show one of the same authority, if `mutual`."""
        settings = {"tls_certificate_file": self.certificate, "tls_key_file": self.key}
        return settings | ({"tls_client_ca_file": self.authority} if mutual else {})

    def stage_settings(self) -> dict[str, Any]:
        """Settings of a gateway that shows it."""
        return {
            "stage_ca_file": self.authority,
            "stage_certificate_file": self.certificate,
            "stage_key_file": self.key,
        }


@dataclass(frozen=True)
class Authority:
    """Issues certificates."""

    ca: trustme.CA = field(default_factory=trustme.CA)

    def issue(self, folder: Path, *hosts: str, expired: bool = False) -> Identity:
        """A certificate for hosts, laid into a folder."""
        issued = self.ca.issue_cert(*hosts, not_after=EXPIRED if expired else None)
        folder.mkdir(parents=True, exist_ok=True)
        identity = Identity(folder)
        identity.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        identity.key.write_bytes(issued.private_key_pem.bytes())
        identity.authority.write_bytes(self.ca.cert_pem.bytes())
        return identity
