"""The data set that is downloaded where there is none."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import pooch  # type: ignore[import-untyped]
import structlog
from requests.exceptions import RequestException

from training.data.movielens.layouts import CHOSEN_BY, layout_of
from training.data.movielens.problems import DataError

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 10.0
"""Longest pause between two bytes."""

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


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


def fetch(download: Download, folder: Path) -> None:
    """Downloads and unpacks aside, and moves the folder into place when it is whole.

    Raises:
        RequestException: the server does not answer, or with something else.
        DataError: what it sent is not the data set.
    """
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
            raise DataError(f"{download.url} is not the file it was: {error}. {advice(folder)}") from error
        unpacked = Path(aside) / "unpacked" / download.name
        layout_of(unpacked)
        put_in_place(unpacked, folder)


def put_in_place(whole: Path, folder: Path) -> None:
    """Renames; if another process was faster, its folder is as good."""
    try:
        whole.rename(folder)
    except OSError:
        layout_of(folder)


def advice(folder: Path) -> str:
    """What to do where the data set does not come."""
    return f"Try again, unpack the data set into {folder}, or name another by {CHOSEN_BY}"
