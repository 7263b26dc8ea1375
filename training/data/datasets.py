"""Which data set to train on: the one named, the one at hand, the one to download, or a generated one."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final
from zipfile import BadZipFile

import pooch  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import structlog
from pyarrow import fs
from requests.exceptions import ChunkedEncodingError, ConnectionError, RequestException, Timeout  # noqa: A004

from training.data.generated import SAMPLE_FILES, VERSION, write_sample
from training.data.movielens.dialect import MOVIELENS, Dialect
from training.data.movielens.layouts import DATA_DIR_VARIABLE, LAYOUTS, LINKS, layout_of, layouts_in
from training.data.movielens.problems import DataError

DATA_ROOT: Final = Path("data")
"""Where data sets are looked for and kept, below the current directory."""

SAMPLE_NAME: Final = "generated-sample"

_CHOICE: Final = f"--data-dir or {DATA_DIR_VARIABLE}"
"""What names a data set, in messages: this module is not told which of them did."""
_BUCKETS: Final = "s3"
"""Scheme of the address of a data set in an object store, and the folder of copies in `root`."""
_SEAL: Final = "sample.json"
_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 10.0  # without a byte

_logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Download:
    """A zip file that holds one folder with a data set, and what it must hash to."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """Of the data set: the folder in the zip file, and the file without its ending."""
        return Path(self.url).stem


ML_LATEST_SMALL: Final = Download(
    url="https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
    sha256="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
)


@dataclass(frozen=True)
class DatasetFolder:
    """A folder with ratings and movies, ready to be read."""

    name: str
    """First part of the dataset tag."""
    folder: Path
    source: str
    """Where it comes from, in words for the user."""
    dialect: Dialect = MOVIELENS
    """How its files are written."""


def resolve(
    chosen: Path | str | None,
    dialect: Dialect = MOVIELENS,
    *,
    root: Path = DATA_ROOT,
    download: Download = ML_LATEST_SMALL,
) -> DatasetFolder:
    """Finds a data set, and gets one if there is none.

    In this order: `chosen`; the folder of `download` in `root`; the download; and, only if the network
    does not answer, a generated sample. What is there but broken is an error, never passed over.

    Args:
        chosen: what `--data-dir` or `MOVIEREC_DATA_DIR` names, if one does: a folder, or
            `s3://BUCKET/PREFIX`, which is copied to `root` each time.
        dialect: how its files are written.
        root: where data sets are kept.
        download: what to get.

    Raises:
        DataError: what there is, or what the server sent, is not the data set.
    """
    return replace(_located(chosen, root, download), dialect=dialect)


def _located(chosen: Path | str | None, root: Path, download: Download) -> DatasetFolder:
    if chosen is not None:
        address = re.sub("^s3a://", f"{_BUCKETS}://", str(chosen))  # as Hadoop calls it
        return _chosen(_copy(address, root) if address.startswith(f"{_BUCKETS}://") else Path(chosen))
    folder = root / download.name
    if folder.exists():
        return _found(folder)
    try:
        _fetch(download, folder)
    except (ConnectionError, Timeout, ChunkedEncodingError) as error:
        _logger.warning("download failed", url=download.url, error=str(error))
        reason = "timed out" if isinstance(error, Timeout) else "could not be reached"
        return _sample(root / SAMPLE_NAME, f"{download.url} {reason}")
    except RequestException as error:
        raise DataError(f"{download.url}: {error}. {_advice(folder)}") from error
    return DatasetFolder(
        download.name, folder, f"{download.name}, downloaded from {download.url} to {folder}."
    )


def _chosen(folder: Path) -> DatasetFolder:
    try:
        layout_of(folder)
    except DataError as error:
        raise DataError(f"{_CHOICE} does not name a data set: {error}") from error
    name = folder.resolve().name or "data"
    return DatasetFolder(name, folder, f"{name} in {folder}.{_unread(folder)}")


def _found(folder: Path) -> DatasetFolder:
    try:
        layout_of(folder)
    except DataError as error:
        raise DataError(f"{error}. Complete the folder, or remove it to have it downloaded") from error
    return DatasetFolder(folder.name, folder, f"{folder.name}, found in {folder}.{_unread(folder)}")


def _unread(folder: Path) -> str:
    """What to say of a folder with files in several layouts; nothing of any other."""
    read, *others = layouts_in(folder)
    if not others:
        return ""
    unread = " and ".join(f"{layout.ratings}, {layout.movies}" for layout in others)
    return f" Read are {read.ratings} and {read.movies}; also there, and not read: {unread}."


# Copy


def _copy(address: str, root: Path) -> Path:
    """Brings what a data set is made of from an object store, and nothing else that lies there."""
    try:
        store, path = fs.FileSystem.from_uri(address)
    except pa.ArrowInvalid:  # whose text has the address, which may hold a key
        store, path = None, ""
    except OSError as error:  # asking for the bucket's region
        raise DataError(f"{_CHOICE}: the object store gives no answer: {error}") from error
    source = PurePosixPath(path)
    if not path or str(source) != path or ".." in source.parts:
        raise DataError(f"{_CHOICE} must be a folder, or s3://BUCKET/PREFIX")
    # Prefixes are within each other, and their copies must not be.
    folder = root / _BUCKETS / hashlib.sha256(path.encode()).hexdigest()[:12] / source.name
    _logger.info("copying", source=f"{_BUCKETS}://{path}", folder=str(folder))
    names = {LINKS, *(name for layout in LAYOUTS for name in (layout.ratings, layout.movies))}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        whole = Path(fresh) / "whole"
        whole.mkdir()
        try:
            for file in _files(store, [f"{path}/{name}" for name in sorted(names)]):
                relative = PurePosixPath(file).relative_to(source)
                if ".." in relative.parts:
                    raise DataError(f"{_BUCKETS}://{file} does not lie in the data set")
                to = whole / relative
                to.parent.mkdir(parents=True, exist_ok=True)
                fs.copy_files(
                    file, str(to), source_filesystem=store, destination_filesystem=fs.LocalFileSystem()
                )
        except OSError as error:
            raise DataError(f"{_BUCKETS}://{path} cannot be copied to {folder}: {error}") from error
        shutil.rmtree(folder, ignore_errors=True)  # as it was for the job before
        whole.rename(folder)
    return folder


def _files(store: fs.FileSystem, paths: Sequence[str]) -> Iterator[str]:
    """Those that are there, and what lies in those that are folders."""
    for found in store.get_file_info(list(paths)):
        if found.type is fs.FileType.Directory:
            inside = store.get_file_info(fs.FileSelector(found.path, recursive=True))
            yield from (one.path for one in inside if one.is_file)
        elif found.is_file:
            yield found.path


# Download


def _fetch(download: Download, folder: Path) -> None:
    """Downloads and unpacks aside, and moves the folder into place when it is whole."""
    _logger.info("downloading", url=download.url)
    pooch.get_logger().setLevel("WARNING")  # it tells of the folder aside
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as aside:
        try:
            pooch.retrieve(
                download.url,
                known_hash=f"sha256:{download.sha256}",
                fname="archive.zip",
                path=aside,
                downloader=pooch.HTTPDownloader(timeout=(_CONNECT_SECONDS, _READ_SECONDS)),
                processor=pooch.Unzip(extract_dir="unpacked"),
            )
        except RequestException:
            raise
        except (ValueError, BadZipFile) as error:  # pooch's word for a wrong checksum
            raise DataError(f"{download.url} is not the file it was: {error}. {_advice(folder)}") from error
        unpacked = Path(aside) / "unpacked" / download.name
        layout_of(unpacked)
        _move(unpacked, folder)


def _move(whole: Path, folder: Path) -> None:
    """Renames; if another process was faster, its folder is as good."""
    try:
        whole.rename(folder)
    except OSError:
        layout_of(folder)


def _advice(folder: Path) -> str:
    return f"Try again, unpack the data set into {folder}, or set {DATA_DIR_VARIABLE} to that of another"


# Sample


def _sample(folder: Path, reason: str) -> DatasetFolder:
    state = "found"
    if not _is_complete(folder):
        state = "generated"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sample-") as aside:
            whole = Path(aside) / SAMPLE_NAME
            whole.mkdir()
            write_sample(whole)
            (whole / _SEAL).write_text(json.dumps(_seal(whole)), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)  # ours: an older version, or damaged
            _move(whole, folder)
    source = (
        f"{SAMPLE_NAME}, {state} in {folder}, since {reason}: "
        "movies and ratings are invented, and results say nothing of real ones."
    )
    return DatasetFolder(SAMPLE_NAME, folder, source)


def _is_complete(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _SEAL).read_text(encoding="utf-8")) == _seal(folder))
    except (OSError, ValueError):  # none, or not as we wrote it
        return False


def _seal(folder: Path) -> dict[str, str]:
    """What a complete sample is known by."""
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SAMPLE_FILES}
    return {"version": str(VERSION), **hashes}
