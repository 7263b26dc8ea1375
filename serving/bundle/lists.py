"""The gateway's `lists.npz`: lists for everybody that training makes; writer beside reader."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.store import BundleFolder, write_arrays
from serving.ids import Rows

_FILE: Final = "lists.npz"


@dataclass(frozen=True)
class ListsContent:
    """What is trending, and what a newcomer is asked about."""

    trending: npt.NDArray[np.float64]
    """Shape (n_movies,): higher is more trending; 0 for a movie never rated."""
    taste_rows: Rows
    """Movies that are well known and far apart in taste, the one to ask about first in front."""

    def write(self, folder: Path) -> None:
        """Writes the file."""
        write_arrays(folder / _FILE, trending=self.trending, taste_rows=self.taste_rows)

    @classmethod
    def read(cls, folder: BundleFolder) -> "ListsContent":
        """Reads what `write` wrote.

        Raises:
            BundleError: it is missing or damaged.
        """
        return cls(**folder.arrays(_FILE, "trending", "taste_rows"))
