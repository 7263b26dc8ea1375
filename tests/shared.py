"""What the workers of a parallel run share: who needs it first makes it, the others wait for it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class SharedFolders:
    """Folders that are made once in a run of tests, whichever worker comes first; not to be changed."""

    root: Path
    """The run's own folder."""

    def made_by(self, make: Callable[[Path], object], name: str) -> Path:
        """The folder of this name.

        Args:
            make: fills the folder, which is empty; called by one worker only, or by the next if it raises.
            name: of the folder; what is made in it is the same for all who ask.
        """
        folder = self.root / name
        with FileLock(self.root / f"{name}.lock"):
            if not folder.exists():
                unfinished = self.root / f"{name}.unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
        return folder
