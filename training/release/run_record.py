"""What is to be known of a run, and those records that MLflow does not hold yet."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from training.errors import TrainingError

_FOLDER: Final = "unrecorded"
_RECORD: Final = "record.json"
_FILES: Final = "files"


class KeptRecordError(TrainingError):
    """A record that is kept cannot be read. The message says which, and what is to be done."""


@dataclass(frozen=True)
class RunRecord:
    """What is to be known of a run."""

    __pydantic_config__: ClassVar = ConfigDict(ser_json_inf_nan="constants")

    experiment: str
    name: str
    parameters: Mapping[str, str | int | float | bool | None]
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()
    """Files, and folders with all that is in them."""
    bundle: Path | None = None
    """A bundle to keep and to register."""
    nested: tuple["RunRecord", ...] = ()


@dataclass(frozen=True)
class Unrecorded:
    """A record that is kept in a folder until MLflow's local store holds it."""

    key: str
    """Names it: the time when it was made, in Unix nanoseconds."""
    record: RunRecord
    """Without those of its files that were removed since."""
    unsent: bool
    """Whether a server is to have it as well."""

    @property
    def made_at(self) -> float:
        """Unix seconds."""
        return int(self.key) / 1e9


@dataclass(frozen=True)
class _Kept:
    """The content of a file: paths below the root are relative to it, as folders are moved and copied."""

    record: RunRecord
    unsent: bool


_KEPT: Final = TypeAdapter(_Kept)


def keep(root: Path, record: RunRecord, *, unsent: bool) -> None:
    """Writes a record down, so that it outlasts whatever happens to the job or to MLflow's store.

    Artefacts outside of the root, of which some are gone with the job, are copied.

    Raises:
        OSError: there is too little space.
    """
    for rest in (root / _FOLDER).glob(".*"):  # of a job that was killed
        shutil.rmtree(rest)
    folder = root / _FOLDER / str(time.time_ns())
    staging = folder.with_name(f".{folder.name}")
    (staging / _FILES).mkdir(parents=True)
    inside = [path for path in record.artifacts if _is_below(path, root)]
    for path in record.artifacts:
        if path.is_dir() and path not in inside:
            shutil.copytree(path, staging / _FILES, dirs_exist_ok=True)
        elif path not in inside:
            shutil.copy(path, staging / _FILES)
    artifacts = (*(_relative(path, root) for path in inside), _relative(folder / _FILES, root))
    bundle = None if record.bundle is None else _relative(record.bundle, root)
    kept = _Kept(replace(record, artifacts=artifacts, bundle=bundle), unsent)
    with (staging / _RECORD).open("wb") as file:
        file.write(_KEPT.dump_json(kept))
        file.flush()
        os.fsync(file.fileno())
    staging.rename(folder)


def kept_keys(root: Path) -> list[str]:
    """Names of the records that are kept, the oldest first."""
    return sorted((folder.name for folder in (root / _FOLDER).glob("[0-9]*")), key=int)


def read_kept(root: Path, key: str) -> Unrecorded:
    """A record that was kept.

    Raises:
        KeptRecordError: it cannot be read, another version wrote it, or it is damaged.
    """
    folder = root / _FOLDER / key
    try:
        kept = _KEPT.validate_json((folder / _RECORD).read_bytes())
    except OSError as error:
        raise KeptRecordError(f"the record of a run in {folder} cannot be read: {error.strerror}") from error
    except ValidationError:
        raise KeptRecordError(
            f"the record of a run in {folder} cannot be read: another version wrote it, or it is damaged. "
            "Move the folder away, and the run is forgotten"
        ) from None
    record = kept.record
    artifacts = tuple(path for one in record.artifacts if (path := root / one).exists())
    bundle = None if record.bundle is None else root / record.bundle
    if bundle is not None and not bundle.exists():
        bundle = None
    return Unrecorded(key, replace(record, artifacts=artifacts, bundle=bundle), kept.unsent)


def remove_kept(root: Path, key: str) -> None:
    """Forgets a record that the store holds by now."""
    shutil.rmtree(root / _FOLDER / key)


def _is_below(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _relative(path: Path, root: Path) -> Path:
    return path.resolve().relative_to(root.resolve()) if _is_below(path, root) else path.resolve()
