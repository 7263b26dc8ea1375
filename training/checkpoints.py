"""Finished steps of a job that is under way, so that a killed one goes on where it was.

A step is the arrays that it computed, in a file that appears whole or not at all. Steps belong to a key:
the command, data, recipe, libraries and the code itself. Another key starts anew.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import serving
import training

_FOLDER: Final = "checkpoints"
LIBRARIES: Final = ("catboost", "implicit", "movierec", "numpy", "scipy")
"""Those that decide what is trained."""

Arrays = Mapping[str, npt.NDArray[Any]]


class Checkpoints:
    """Remembers steps in the folder of one key, or nothing without one; names begin with a prefix."""

    def __init__(self, folder: Path | None = None, prefix: str = "") -> None:
        self._folder = folder
        self._prefix = prefix

    @classmethod
    def of(cls, root: Path, job: str, *parts: str) -> "Checkpoints":
        """The steps of a job, named `job`, that `parts` describe, below a root of bundles.

        Of other keys of this name, whose jobs were refused or never ended, the last one's steps are kept.
        """
        libraries = (f"{name} {version(name)}" for name in LIBRARIES)
        hasher = hashlib.sha256("\n".join([*parts, *libraries]).encode())
        for package in (serving, training):
            for path in sorted(Path(package.__path__[0]).rglob("*.py")):
                hasher.update(path.read_bytes())
        folder = root / _FOLDER / job / hasher.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        for torn in folder.glob(".*"):
            torn.unlink()
        others = [other for other in folder.parent.iterdir() if other != folder]
        for abandoned in sorted(others, key=lambda other: other.stat().st_mtime)[:-1]:
            shutil.rmtree(abandoned, ignore_errors=True)
        return cls(folder)

    def part(self, name: str) -> "Checkpoints":
        """Steps of a part of the job: their names begin with that of the part."""
        return Checkpoints(self._folder, f"{self._prefix}{name}-")

    def whole(self) -> "Checkpoints":
        """Steps that all parts of the job share: a name must say all that its arrays depend on."""
        return Checkpoints(self._folder)

    def has(self, name: str) -> bool:
        """Whether a step was finished before."""
        return self._folder is not None and self._path(name, self._folder).is_file()

    def step(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays of a step: read if it was finished before, else computed and written.

        Both ways give the same arrays, dtype and bits. Memory order is that of numpy's format: C, or
        Fortran where an array is only that.
        """
        if self._folder is None:
            return compute()
        path = self._path(name, self._folder)
        if path.is_file():
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        arrays = compute()
        aside = path.with_name(f".{path.name}")
        with aside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        return arrays

    def _path(self, name: str, folder: Path) -> Path:
        return folder / f"{self._prefix}{name}.npz"

    def forget(self) -> None:
        """Removes all steps of all jobs of this name in this root: one has ended well."""
        if self._folder is None:
            return
        shutil.rmtree(self._folder.parent, ignore_errors=True)
        with suppress(OSError):  # a job of another name has steps
            self._folder.parent.parent.rmdir()


NO_CHECKPOINTS: Final = Checkpoints()
"""Remembers nothing."""
