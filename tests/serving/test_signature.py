"""Where a key is set, nobody else's bundles are read: by servers, by the trial before them, by sync."""

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from serving.bundle.manifest import MANIFEST_NAME
from serving.bundle.signature import SIGNATURE_NAME, KeyFileError, SigningKey, TrustedKeys
from serving.bundle.store import BundleError, BundleStore
from serving.bundle.trial import try_loading

LOADER = "tests.serving.loaders:manifest"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the process of a trial."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def new_key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate().private_bytes_raw())


def private_pem(key: SigningKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(key.raw).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    )


def public_pem(key: SigningKey) -> bytes:
    public = Ed25519PrivateKey.from_private_bytes(key.raw).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed_by(key: SigningKey | None, unsigned: BundleStore, root: Path) -> tuple[BundleStore, str]:
    """The current bundle, published anew in another root by who has this key."""
    bundle_id = unsigned.pointer().bundle_id
    store = BundleStore(root, trusted=None if key is None else key.public)
    with store.staging() as staging:
        shutil.copytree(unsigned.path(bundle_id), staging, dirs_exist_ok=True)
        store.publish(staging, unsigned.manifest(bundle_id), key)
    store.point_to(bundle_id, published_at=0)
    return store, bundle_id


@pytest.fixture
def unsigned(bundle_root: Path) -> BundleStore:
    return BundleStore(bundle_root)


@pytest.mark.row(59)
def test_a_bundle_is_read_by_who_trusts_its_publisher(unsigned: BundleStore, tmp_path: Path) -> None:
    key, other = new_key(), new_key()
    signed, bundle_id = signed_by(key, unsigned, tmp_path)
    both = BundleStore(tmp_path, trusted=TrustedKeys((*other.public.raw, *key.public.raw)))
    for store in (signed, both, BundleStore(tmp_path)):
        store.verify(bundle_id)
        try_loading([LOADER], store, bundle_id)


@pytest.mark.row(59)
def test_an_unsigned_bundle_is_refused(unsigned: BundleStore) -> None:
    store, bundle_id = BundleStore(unsigned.root, trusted=new_key().public), unsigned.pointer().bundle_id
    error = f"^bundle {bundle_id}: cannot read {SIGNATURE_NAME}: No such file or directory$"
    with pytest.raises(BundleError, match=error):
        store.manifest(bundle_id)
    with pytest.raises(BundleError, match=error):
        store.point_to(bundle_id, published_at=0)
    with pytest.raises(BundleError, match=error):  # the process that reads it first refuses it by itself
        try_loading([LOADER], store, bundle_id)


@pytest.mark.row(51, 59)
@pytest.mark.parametrize("content", [b"", b"0" * 128, b"0" * 127, b"z" * 128, b"0" * 2_000])
def test_a_wrong_signature_is_refused(unsigned: BundleStore, tmp_path: Path, content: bytes) -> None:
    store, bundle_id = signed_by(new_key(), unsigned, tmp_path)
    (store.path(bundle_id) / SIGNATURE_NAME).write_bytes(content)
    with pytest.raises(BundleError, match="is not that of a key that is trusted"):
        store.manifest(bundle_id)


@pytest.mark.row(51, 59)
def test_a_manifest_that_was_changed_is_refused(unsigned: BundleStore, tmp_path: Path) -> None:
    """Golden answers and features are not in the bundle's id."""
    store, bundle_id = signed_by(new_key(), unsigned, tmp_path)
    manifest = store.path(bundle_id) / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes().replace(b'"n_candidates": ', b'"n_candidates":  '))
    with pytest.raises(BundleError, match="is not that of a key that is trusted"):
        store.manifest(bundle_id)


def test_publishing_with_a_key_signs_what_was_unsigned(unsigned: BundleStore, tmp_path: Path) -> None:
    _, bundle_id = signed_by(None, unsigned, tmp_path)
    store, again = signed_by(new_key(), unsigned, tmp_path)
    assert again == bundle_id
    store.verify(bundle_id)


def test_a_copy_keeps_its_signature(unsigned: BundleStore, tmp_path: Path) -> None:
    store, bundle_id = signed_by(new_key(), unsigned, tmp_path / "one")
    copy = BundleStore(tmp_path / "other", trusted=store.trusted)
    with copy.staging() as staging:
        shutil.copytree(store.path(bundle_id), staging, dirs_exist_ok=True)
        copy.adopt(staging)
    copy.verify(bundle_id)


def test_keys_are_read_from_pem(tmp_path: Path) -> None:
    one, other = new_key(), new_key()
    private, public = tmp_path / "key.pem", tmp_path / "keys.pub.pem"
    private.write_bytes(private_pem(one))
    public.write_bytes(public_pem(other) + b"the next one\n" + public_pem(one))
    trusted = TrustedKeys.read(public)
    assert trusted.have_signed(b"content", SigningKey.read(private).sign(b"content"))
    assert not trusted.have_signed(b"other content", one.sign(b"content"))
    assert TrustedKeys.from_hex(trusted.hex()) == trusted
    assert one.raw.hex() not in repr(one)


def test_files_without_a_usable_key_are_named(tmp_path: Path) -> None:
    foreign = generate_private_key(SECP256R1())
    path = tmp_path / "key.pem"
    for content, error in (
        (None, "cannot read .*key.pem: No such file or directory"),
        (b"none", "holds no private key in PEM without a passphrase"),
        (private_pem(new_key(), BestAvailableEncryption(b"secret")), "without a passphrase"),
        (
            foreign.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "holds a key that is not Ed25519",
        ),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(KeyFileError, match=error):
            SigningKey.read(path)
    for content, error in (
        (b"none", "holds no public key in PEM"),
        (
            b"-----BEGIN PUBLIC KEY-----\nbm9uZQ==\n-----END PUBLIC KEY-----",
            "holds a key that cannot be read",
        ),
        (
            foreign.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "holds a key that is not Ed25519",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match=error):
            TrustedKeys.read(path)
