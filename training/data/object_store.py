"""Copies of data sets out of an object store."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa  # type: ignore[import-untyped]
import structlog
from pyarrow import fs

from training.data.movielens.layouts import CHOSEN_BY, LAYOUTS, LINKS
from training.data.movielens.problems import DataError

_BUCKETS: Final = "s3"
"""Scheme of the address of a data set in an object store, and the folder of copies in `root`."""

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


def address_of(chosen: Path | str) -> str | None:
    """The address in an object store that was chosen, as `s3://BUCKET/PREFIX`; None for a folder."""
    address = re.sub("^s3a://", f"{_BUCKETS}://", str(chosen))  # as Hadoop calls it
    return address if address.startswith(f"{_BUCKETS}://") else None


def copy_data_set(address: str, root: Path) -> Path:
    """Brings what a data set is made of from an object store to `root`, and nothing else that lies there.

    Raises:
        DataError: there is no such address, or the store gives no answer.
    """
    try:
        store, path = fs.FileSystem.from_uri(address)
    except pa.ArrowInvalid:  # whose text has the address, which may hold a key
        store, path = None, ""
    except OSError as error:  # asking for the bucket's region
        raise DataError(f"{CHOSEN_BY}: the object store gives no answer: {error}") from error
    source = PurePosixPath(path)
    if not path or str(source) != path or ".." in source.parts:
        raise DataError(f"{CHOSEN_BY} must be a folder, or s3://BUCKET/PREFIX")
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
        shutil.rmtree(folder, ignore_errors=True)  # the copy of an earlier job
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
