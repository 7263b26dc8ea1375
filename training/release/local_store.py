"""MLflow's store in an SQLite file: it is made whole or not at all, and it follows its folder.

Needs no more than mlflow-skinny, as `training.release.registry`.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from filelock import FileLock
from mlflow.tracking import MlflowClient

from training.errors import TrainingError

_SQLITE: Final = "sqlite:///"
_ARTIFACTS: Final = "mlruns"
_LOCATIONS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow that say where artefacts lie, each as an absolute URI."""


class StoreError(TrainingError):
    """The file of a store cannot be used. The message says why, and what is to be done."""


def local_store(root: Path) -> str:
    """Tracking URI of the store that lies beside the bundles of a root."""
    return f"{_SQLITE}{root.resolve() / 'mlflow.db'}"


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of a store; None: it is a server's."""
    return Path(tracking_uri.removeprefix(_SQLITE)) if tracking_uri.startswith(_SQLITE) else None


def artifact_location(file: Path, experiment: str) -> str:
    """Where the artefacts of an experiment lie: beside the file.

    MLflow's default would be the current directory.
    """
    return (file.resolve().parent / _ARTIFACTS / experiment).as_uri()


def make_ready(tracking_uri: str) -> None:
    """Makes the store if it is not there, and moves its locations to where its folder is now.

    Does nothing to a server.

    Raises:
        StoreError: the file is no store, or is locked.
    """
    file = sqlite_file(tracking_uri)
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        try:
            if not _is_complete(file):
                _make(file)
            _follow_the_folder(file)
        except sqlite3.DatabaseError as error:
            if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise StoreError(f"{file} is locked by another process: run this again later") from error
            raise StoreError(
                f"{file} is not a store of MLflow ({error}): move it away, and the next job makes a new one"
            ) from error


def _is_complete(file: Path) -> bool:
    """Whether the making of the store came to its end, which is to insert a first experiment.

    A job of an earlier version that was killed may have left some of the tables, and nothing in them.
    """
    if not file.exists():
        return False
    with closing(sqlite3.connect(file)) as database:
        try:
            return database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
        except sqlite3.OperationalError as error:
            if _code(error) == sqlite3.SQLITE_ERROR:  # no such table
                return False
            raise


def _make(file: Path) -> None:
    """Runs all migrations of MLflow aside: they take seconds, and end half done if the process is killed."""
    prefix = f".{file.name}-"
    for rest in file.parent.glob(f"{prefix}*"):  # of an attempt that was killed
        shutil.rmtree(rest)
    with TemporaryDirectory(prefix=prefix, dir=file.parent) as folder:
        made = Path(folder).resolve() / file.name
        MlflowClient(tracking_uri=f"{_SQLITE}{made}").search_experiments(max_results=1)
        for journal in ("-journal", "-shm", "-wal"):  # of a half-made file that is replaced
            Path(f"{file}{journal}").unlink(missing_ok=True)
        made.rename(file)


def _follow_the_folder(file: Path) -> None:
    """Mends locations that are of another folder: this one was moved or copied."""
    with closing(sqlite3.connect(file)) as database, database:
        moved = [
            (location, here)
            for name, location in database.execute("SELECT name, artifact_location FROM experiments")
            if (location or "").startswith("file://")
            and location.endswith(f"/{_ARTIFACTS}/{name}")
            and location != (here := artifact_location(file, name))
        ]
        for there, here in moved:
            for table, column in _LOCATIONS:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608  # names from above
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here, len(there) + 1, there, len(there) + 1, f"{there}/"),
                )


def _code(error: sqlite3.DatabaseError) -> int | None:
    return getattr(error, "sqlite_errorcode", None)
