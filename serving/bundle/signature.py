"""Signatures of bundles: Ed25519 over the manifest, which has the hash of every file.

openssl genpkey -algorithm ed25519 -out bundle-key.pem             # whoever publishes keeps it
openssl pkey -in bundle-key.pem -pubout -out bundle-key.pub.pem    # servers and sync get this
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The library itself is imported where a key is read or used: that takes a tenth of a second, and most servers
# have no key.

SIGNATURE_NAME: Final = "manifest.sig"
"""Beside the manifest: 128 hexadecimal digits."""
MAX_SIGNATURE_BYTES: Final = 1024

_SIGNATURE: Final = re.compile(rb"[0-9a-f]{128}\n?")
_PUBLIC_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----")


class KeyFileError(Exception):
    """A file without a usable key. The message names it."""


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys of those who may publish: one of them must have signed."""

    raw: tuple[bytes, ...]
    """32 bytes each; at least one."""

    @classmethod
    def read(cls, path: Path) -> "TrustedKeys":
        """The Ed25519 keys of a file in PEM; several while one replaces another.

        Raises:
            KeyFileError: it cannot be read, or holds no such key, or another besides.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

        keys = []
        for pem in _PUBLIC_PEM.findall(_content(path)):
            try:
                key = load_pem_public_key(pem)
            except ValueError as error:
                raise KeyFileError(f"{path} holds a key that cannot be read") from error
            if not isinstance(key, Ed25519PublicKey):
                raise KeyFileError(f"{path} holds a key that is not Ed25519")
            keys.append(key.public_bytes_raw())
        if not keys:
            raise KeyFileError(f"{path} holds no public key in PEM")
        return cls(tuple(keys))

    @classmethod
    def from_hex(cls, text: str) -> "TrustedKeys":
        """The keys that `hex` gave."""
        return cls(tuple(map(bytes.fromhex, text.split(","))))

    def hex(self) -> str:
        """The keys for a command line: they are no secret."""
        return ",".join(key.hex() for key in self.raw)

    def have_signed(self, content: bytes, signature: bytes) -> bool:
        """Whether one of the keys made this signature, as a signature file has it, of this content."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        if not _SIGNATURE.fullmatch(signature):
            return False
        for key in self.raw:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(signature.decode()), content)
            except InvalidSignature:
                continue
            return True
        return False


@dataclass(frozen=True, repr=False)  # it is a secret
class SigningKey:
    """The private key of who publishes."""

    raw: bytes
    """32 bytes."""

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """The Ed25519 key of a file in PEM, without a passphrase.

        Raises:
            KeyFileError: it cannot be read, or holds no such key.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

        try:
            key = load_pem_private_key(_content(path), password=None)
        except (TypeError, ValueError) as error:  # it has a passphrase, or is no key
            raise KeyFileError(f"{path} holds no private key in PEM without a passphrase") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"{path} holds a key that is not Ed25519")
        return cls(key.private_bytes_raw())

    @property
    def public(self) -> TrustedKeys:
        """What checks its signatures."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return TrustedKeys((Ed25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw(),))

    def sign(self, content: bytes) -> bytes:
        """The content of a signature file."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        signature = Ed25519PrivateKey.from_private_bytes(self.raw).sign(content)
        return f"{signature.hex()}\n".encode()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error
