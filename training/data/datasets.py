"""Which data set to train on: the one named, the one at hand, the one to download, or a generated one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog
from requests.exceptions import ChunkedEncodingError, ConnectionError, RequestException, Timeout  # noqa: A004

from training.data.download import ML_LATEST_SMALL, Download, advice, fetch
from training.data.kept_sample import keep_sample
from training.data.movielens.dialect import MOVIELENS, Dialect
from training.data.movielens.layouts import CHOSEN_BY, layout_of, layouts_in
from training.data.movielens.problems import DataError
from training.data.object_store import address_of, copy_data_set
from training.errors import root_cause

DATA_ROOT: Final = Path("data")
"""Where data sets are looked for and kept, below the current directory."""

SAMPLE_NAME: Final = "generated-sample"

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


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

    In this order: `chosen`, a folder, or `s3://BUCKET/PREFIX`, which is copied to `root` each time; the
    folder of `download` in `root`; the download; and, only if the network does not answer, a generated
    sample. What is there but broken is an error, never passed over.

    Raises:
        DataError: what there is, or what the server sent, is not the data set.
    """
    return replace(_located(chosen, root, download), dialect=dialect)


def _located(chosen: Path | str | None, root: Path, download: Download) -> DatasetFolder:
    if chosen is not None:
        address = address_of(chosen)
        return _chosen(Path(chosen) if address is None else copy_data_set(address, root))
    folder = root / download.name
    if folder.exists():
        return _found(folder)
    try:
        fetch(download, folder)
    except (ConnectionError, Timeout, ChunkedEncodingError) as error:
        _logger.warning("download failed", url=download.url, error=root_cause(error))
        reason = "timed out" if isinstance(error, Timeout) else "could not be reached"
        return _sample(root / SAMPLE_NAME, f"{download.url} {reason}")
    except RequestException as error:
        raise DataError(f"{download.url}: {error}. {advice(folder)}") from error
    return DatasetFolder(
        download.name, folder, f"{download.name}, downloaded from {download.url} to {folder}."
    )


def _chosen(folder: Path) -> DatasetFolder:
    try:
        layout_of(folder)
    except DataError as error:
        raise DataError(f"{CHOSEN_BY} does not name a data set: {error}") from error
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


def _sample(folder: Path, reason: str) -> DatasetFolder:
    state = "generated" if keep_sample(folder) else "found"
    source = (
        f"{SAMPLE_NAME}, {state} in {folder}, since {reason}: "
        "movies and ratings are invented, and results say nothing of real ones."
    )
    return DatasetFolder(SAMPLE_NAME, folder, source)
