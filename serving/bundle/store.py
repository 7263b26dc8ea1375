"""A directory of bundles and the pointer to the current one: finding, verifying, publishing.

    <root>/bundles/<bundle_id>/manifest.json
                               manifest.sig                                where whoever publishes has a key
                               candidate/ ranking/ similarity/ gateway/    files of the manifest
                               reports/ exports/ build.json                for people, not verified
    …/candidate/ratings.npz    or ratings-0-of-2.npz and ratings-1-of-2.npz: users are split over shards
    <root>/current                                                         the pointer

A published directory is never modified, and the pointer moves last: a reader sees a whole bundle or none.
"""

import errno
import hashlib
import io
import math
import os
import re
import shutil
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self, TypeAlias
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from serving.bundle.manifest import (
    BUNDLE_ID_PATTERN,
    MANIFEST_NAME,
    SERVED_FOLDERS,
    BundleId,
    FileRecord,
    Golden,
    Manifest,
    ShardRecord,
    bundle_id_of,
    piece,
)
from serving.bundle.signature import MAX_SIGNATURE_BYTES, SIGNATURE_NAME, SigningKey, TrustedKeys
from serving.shards import UserShard

_BUNDLES: Final = "bundles"
_POINTER: Final = "current"
_STAGING_PREFIX: Final = ".staging-"
_KEPT: Final = 3
_MAX_POINTER_BYTES: Final = 4096
_HEADER_LOCK: Final = Lock()
MAX_MANIFEST_BYTES: Final = 1024 * 1024
"""A manifest of 1,000 candidates has a tenth of that."""

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)

Fingerprint: TypeAlias = frozenset[tuple[str, int, int]]
"""Path, size and time of change of each file."""


class BundleError(Exception):
    """A bundle that is missing, damaged or of another format. The message names bundle and file."""


class Pointer(BaseModel):
    """Which bundle is served."""

    # NaN and infinity would be written as null, which nobody reads.
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    bundle_id: BundleId
    """The current bundle."""
    previous: BundleId | None = None
    """The one before it: where a rollback leads, and what ranking and the gateway hold besides."""
    published_at: float
    """Unix seconds when the pointer moved."""


@dataclass(frozen=True)
class BundleFolder:
    """One process's part of a bundle. Reads only files of the manifest, and only after their hash fits."""

    manifest: Manifest
    name: str
    _bundle: Path
    user_shard: UserShard | None = None
    """Whose users the process holds; None: everybody."""

    @property
    def golden(self) -> Golden | ShardRecord:
        """What must come out again: of a user whom the process holds."""
        if self.user_shard is None or not self.manifest.shards:
            return self.manifest.golden
        return self.manifest.shards[self.user_shard.index]

    def user_pieces(self, name: str) -> list[str]:
        """The names of the files that an array of users, as `ratings`, is read from: ascending by shard."""
        count = self.manifest.user_shards
        indices = range(count) if self.user_shard is None else [self.user_shard.index]
        return [f"{name}{piece(index, count)}" for index in indices]

    def read(self, file_name: str) -> bytes:
        """The verified bytes of a file.

        Raises:
            BundleError: the file is missing, a link, or of another size or hash than the manifest says.
        """
        with self._opened(file_name) as (file, record):
            data = file.read(record.size)
            self._require_published(file_name, hashlib.sha256(data).hexdigest() == record.sha256)
        return data

    def verify(self, file_name: str) -> None:
        """Checks a file as `read` does, in pieces: a copy needs no memory for all of it."""
        with self._opened(file_name) as (file, record):
            digest = hashlib.file_digest(file, "sha256")
            self._require_published(file_name, digest.hexdigest() == record.sha256)

    @contextmanager
    def _opened(self, file_name: str) -> Iterator[tuple[io.BufferedReader, FileRecord]]:
        """A file of the right size, before a byte is read: a larger one would take the server's memory."""
        path = f"{self.name}/{file_name}"
        record = self.manifest.files.get(path)
        if record is None:
            raise BundleError(f"bundle {self.manifest.bundle_id} has no {path}")
        with _open_without_links(self._bundle, path) as file:
            self._require_published(file_name, os.fstat(file.fileno()).st_size == record.size)
            yield file, record

    def _require_published(self, file_name: str, is_published: bool) -> None:  # noqa: FBT001
        if not is_published:
            raise BundleError(
                f"bundle {self.manifest.bundle_id}: {self.name}/{file_name} is not what was published"
            )

    def arrays(self, file_name: str, *names: str) -> Mapping[str, npt.NDArray[Any]]:
        """The named arrays of a verified .npz file, read-only: no request can alter what others read."""
        data = self.read(file_name)
        with ZipFile(io.BytesIO(data)) as archive:
            arrays = {name: _array(data, archive.getinfo(f"{name}.npy")) for name in names}
        for array in arrays.values():
            array.flags.writeable = False
        return MappingProxyType(arrays)


class BundleStore:
    """The bundles below one root directory.

    Args:
        root: the directory.
        trusted: whose bundles are read; None: everybody's.
        user_shard: whose users are read, and need to be there; None: everybody.
        folder: the one that needs to be there; None: all.
    """

    def __init__(
        self,
        root: Path,
        *,
        trusted: TrustedKeys | None = None,
        user_shard: UserShard | None = None,
        folder: str | None = None,
    ) -> None:
        self.root = root
        self.trusted = trusted
        self.user_shard = user_shard
        self.needed_folder = folder
        self._verified: dict[str, Fingerprint] = {}

    def pointer(self) -> Pointer:
        """What the pointer says.

        Raises:
            BundleError: nothing was published yet, or the pointer cannot be read.
        """
        try:
            with _open_file(str(self.root / _POINTER)) as file:
                return Pointer.model_validate_json(file.read(_MAX_POINTER_BYTES))
        except FileNotFoundError:
            raise BundleError(f"no bundle is published in {self.root}") from None
        except (OSError, ValidationError) as error:
            raise BundleError(f"the pointer {self.root / _POINTER} is unreadable") from error

    def path(self, bundle_id: str) -> Path:
        """Where a bundle lies.

        Raises:
            BundleError: the id is not one.
        """
        if not re.fullmatch(BUNDLE_ID_PATTERN, bundle_id):
            raise BundleError("a bundle id is 1 to 64 letters, digits, '_' or '-'")
        return self.root / _BUNDLES / bundle_id

    def manifest(self, bundle_id: str) -> Manifest:
        """The manifest of a published bundle.

        Raises:
            BundleError: there is none, it does not belong to this bundle, or nobody who is trusted signed it;
                or its users are not in as many shards as this store's one is of.
        """
        manifest = self.read_manifest(self.path(bundle_id))
        if not manifest.bundle_id == bundle_id == bundle_id_of(manifest.files):
            raise BundleError(f"bundle {bundle_id}: the manifest is that of another bundle")
        return manifest

    def folder(self, bundle_id: str, name: str) -> BundleFolder:
        """One process's part of a published bundle."""
        return BundleFolder(self.manifest(bundle_id), name, self.path(bundle_id), self.user_shard)

    def verify(self, bundle_id: str) -> None:
        """Checks every byte of a published bundle; again only once something about its files has changed.

        Raises:
            BundleError: there is none, or a file is not what the manifest says.
        """
        files = self.fingerprint(bundle_id)
        if files and self._verified.get(bundle_id) == files:
            return
        manifest = self.manifest(bundle_id)
        self._verify(manifest, self.path(bundle_id))
        self._verified[bundle_id] = files

    def is_whole(self, bundle_id: str) -> bool:
        """Whether a bundle was published and is as it was then. Damage is logged: it is no usual answer.

        Raises:
            BundleError: the id is not one.
        """
        path = self.path(bundle_id)
        try:
            self.verify(bundle_id)
        except BundleError as error:
            if os.path.lexists(path):
                _logger.warning("bundle is damaged", bundle_id=bundle_id, error=str(error))
            return False
        return True

    def fingerprint(self, bundle_id: str) -> Fingerprint:
        """Tells without reading whether anything about a bundle's files has changed; empty without files."""
        found = set()
        with suppress(OSError):  # removed while we look
            for path in self.path(bundle_id).rglob("*"):
                status = path.lstat()
                found.add((str(path), status.st_size, status.st_ctime_ns))
        return frozenset(found)

    def require_space(self, needed: int) -> None:
        """Refuses to begin what cannot be finished.

        Args:
            needed: bytes.

        Raises:
            OSError: less is free.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if free < needed:
            text = f"No space left in {self.root}: the bundle needs {needed} bytes, {free} are free"
            raise OSError(errno.ENOSPC, text)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A hidden directory to fill, and then to `publish`; removed when the block ends."""
        bundles = self.root / _BUNDLES
        bundles.mkdir(parents=True, exist_ok=True)
        for rest in bundles.glob(f"{_STAGING_PREFIX}*"):  # of a job that was killed
            _remove(rest)
        staging = bundles / f"{_STAGING_PREFIX}{os.getpid()}"
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(self, staging: Path, manifest: Manifest, key: SigningKey | None = None) -> None:
        """Makes a filled staging directory a bundle, but does not yet serve it: see `point_to`.

        Publishing equal contents again leaves the bundle that is there. It is replaced if it was damaged, if
        nobody who is trusted had signed it, and if it tells of another data set, recipe or rules.

        Args:
            staging: the directory.
            manifest: of all that is in it.
            key: signs the manifest; None: nobody does.
        """
        content = manifest.model_dump_json(indent=1).encode()
        (staging / MANIFEST_NAME).write_bytes(content)
        if key is not None:
            (staging / SIGNATURE_NAME).write_bytes(key.sign(content))
        self._move_in(staging, manifest)

    def _move_in(self, staging: Path, manifest: Manifest) -> None:
        for path in staging.rglob("*"):
            _sync(path)
        _sync(staging)
        if self.is_whole(manifest.bundle_id) and _same_origin(self.manifest(manifest.bundle_id), manifest):
            return
        final = self.path(manifest.bundle_id)
        replaced = staging.with_name(f"{staging.name}-replaced")
        # A full folder cannot be renamed over another: for a moment there is no bundle, and who loads it just
        # then looks again.
        with suppress(FileNotFoundError):
            final.rename(replaced)
        staging.rename(final)
        _sync(final.parent)
        if os.path.lexists(replaced):
            _remove(replaced)

    def adopt(self, staging: Path) -> Manifest:
        """Makes a bundle of a staging directory that was copied from elsewhere, manifest included.

        Raises:
            BundleError: it is not a bundle, a file is not what the manifest says, or nobody who is trusted
                signed it.
        """
        manifest = self.read_manifest(staging)
        if manifest.bundle_id != bundle_id_of(manifest.files):
            raise BundleError(f"bundle {manifest.bundle_id}: the manifest is that of another bundle")
        self._verify(manifest, staging)
        self._move_in(staging, manifest)  # the manifest stays as it was signed
        return manifest

    def point_to(self, bundle_id: str, *, published_at: float, previous: str | None = None) -> None:
        """Makes a published bundle the current one, and removes what is too old to go back to.

        What fails after the pointer has moved is logged: the bundle is served all the same.

        Args:
            bundle_id: of the bundle.
            published_at: Unix seconds.
            previous: the bundle before it; None: the one that is current now.

        Raises:
            BundleError: there is no such bundle, or it is damaged.
        """
        self.verify(bundle_id)
        with suppress(BundleError):
            now = self.pointer()
            if now.bundle_id == bundle_id:
                return
            previous = previous or now.bundle_id
        pointer = Pointer(bundle_id=bundle_id, previous=previous, published_at=published_at)
        aside = self.root / f"{_POINTER}.new"
        aside.write_text(pointer.model_dump_json(), encoding="utf-8")
        _sync(aside)
        aside.rename(self.root / _POINTER)
        # From here on the bundle is served: what fails now must not look as if it were not.
        try:
            _sync(self.root)
            self._remove_old(pointer)
        except OSError as error:
            _logger.warning("pointer moved, but not all is tidy behind it", error=str(error))

    def seconds_to_settle(self, bundle_id: str, *, now: float, settle_seconds: float) -> float:
        """How long the pointer must stay before it may move to a bundle.

        Processes hold the two bundles that the pointer names, and until it has settled they answer from
        either. So these two may change places at any time, but a third has to wait. A pointer from the
        future is a clock's mistake, and nobody waits for it.
        """
        try:
            pointer = self.pointer()
        except BundleError:
            return 0.0
        if bundle_id in {pointer.bundle_id, pointer.previous} or pointer.previous is None:
            return 0.0
        left = pointer.published_at + settle_seconds - now
        return left if 0 < left <= settle_seconds else 0.0

    def roll_back(self, *, published_at: float) -> Pointer:
        """Serves the previous bundle again, at any time; a second call undoes it.

        Raises:
            BundleError: there is no previous bundle.
        """
        previous = self.pointer().previous
        if previous is None:
            raise BundleError(f"no previous bundle in {self.root}")
        self.point_to(previous, published_at=published_at)
        return self.pointer()

    def read_manifest(self, bundle: Path) -> Manifest:
        """The manifest of a directory, published or not.

        Raises:
            BundleError: there is none, or nobody who is trusted signed it.
        """
        with _open_without_links(bundle, MANIFEST_NAME) as file:
            content = file.read(MAX_MANIFEST_BYTES)
        if self.trusted is not None:  # before what somebody else wrote is read any further
            with _open_without_links(bundle, SIGNATURE_NAME) as file:
                signature = file.read(MAX_SIGNATURE_BYTES)
            if not self.trusted.have_signed(content, signature):
                raise BundleError(
                    f"bundle {bundle.name}: {SIGNATURE_NAME} is not that of a key that is trusted"
                )
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            if first["loc"] == ("format_version",) and first["type"] == "literal_error":
                has, reads = f"{first['input']!r:.20}", first["ctx"]["expected"]
                text = f"bundle {bundle.name}: its format_version is {has}, and this process reads {reads}"
                raise BundleError(text) from error
            reason = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise BundleError(f"bundle {bundle.name}: the manifest is unreadable: {reason}") from error
        if self.user_shard is not None and self.user_shard.count != manifest.user_shards:
            raise BundleError(
                f"bundle {manifest.bundle_id}: its user_shards is {manifest.user_shards}, "
                f"and this process is to serve shard {self.user_shard}"
            )
        return manifest

    def _verify(self, manifest: Manifest, bundle: Path) -> None:
        for path in manifest.files_for(self.user_shard, self.needed_folder):
            folder, _, name = path.partition("/")
            BundleFolder(manifest, folder, bundle).verify(name)

    def _remove_old(self, pointer: Pointer) -> None:
        bundles = [p for p in (self.root / _BUNDLES).iterdir() if not p.name.startswith(".")]
        newest_first = sorted(bundles, key=lambda p: p.stat().st_mtime_ns, reverse=True)
        for bundle in newest_first[_KEPT:]:
            if bundle.name not in {pointer.bundle_id, pointer.previous}:
                try:
                    shutil.rmtree(bundle)
                except OSError as error:  # the next move of the pointer tries again
                    _logger.warning("old bundle not removed", bundle_id=bundle.name, error=str(error))


def file_records(staging: Path) -> dict[str, FileRecord]:
    """The records of all files that servers load from a staging directory, by relative path."""
    records = {}
    for folder in SERVED_FOLDERS:
        for path in sorted((staging / folder).iterdir()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            records[f"{folder}/{path.name}"] = FileRecord(size=path.stat().st_size, sha256=digest)
    return records


def write_arrays(path: Path, **arrays: npt.NDArray[Any]) -> None:
    """Writes an .npz file whose bytes depend on the arrays alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)


@dataclass(frozen=True)
class ArraysFile:
    """An .npz file whose arrays are the fields."""

    FILE: ClassVar[str]
    """Its name."""

    def write(self, folder: Path) -> None:
        """Writes the file."""
        write_arrays(folder / self.FILE, **vars(self))

    @classmethod
    def read(cls, folder: BundleFolder) -> Self:
        """Reads what `write` wrote.

        Raises:
            BundleError: it is missing or damaged.
        """
        return cls(**folder.arrays(cls.FILE, *(field.name for field in fields(cls))))


def _same_origin(one: Manifest, other: Manifest) -> bool:
    """Whether bundles of equal contents also tell of the same data set, recipe and rules."""
    return (one.dataset_tag, one.recipe, one.rules) == (other.dataset_tag, other.recipe, other.rules)


def _array(data: bytes, member: ZipInfo) -> npt.NDArray[Any]:
    """One array of an .npz file, copied once.

    `numpy.load` copies three times and computes a checksum of bytes whose hash was right: that took a
    seventh of the time of loading a bundle.
    """
    file = io.BytesIO(data)
    name_bytes, extra_bytes = struct.unpack_from("<HH", data, member.header_offset + 26)
    file.seek(member.header_offset + 30 + name_bytes + extra_bytes)
    if np.lib.format.read_magic(file) != (1, 0) or member.compress_type != ZIP_STORED:
        raise ValueError(f"{member.filename} was not written by `write_arrays`")
    # numpy parses a header with `ast`, and Python 3.11 counts the depth of all threads in one place: two that
    # parse at once can end in a SystemError.
    with _HEADER_LOCK:
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    array = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return array.reshape(shape, order="F" if is_fortran else "C").copy(order="K")


@contextmanager
def _open_without_links(bundle: Path, relative: str) -> Iterator[io.BufferedReader]:
    """Opens a file below `bundle`, following no symbolic link: a bundle refers to nothing outside it."""
    *folders, name = relative.split("/")
    at = None
    try:
        at = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        with _open_file(name, os.O_NOFOLLOW, folder=at) as file:
            yield file
    except OSError as error:
        raise BundleError(f"bundle {bundle.name}: cannot read {relative}: {error.strerror}") from error
    finally:
        if at is not None:
            os.close(at)


def _open_file(path: str, flags: int = 0, *, folder: int | None = None) -> io.BufferedReader:
    """Opens a regular file and nothing else: a pipe that nobody writes to would block the reader for good."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    """Flushes a file or directory to the disk, so that a power cut cannot undo it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
