"""The gateway's `lists.npz`: lists for everybody that training makes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from serving.bundle.store import ArraysFile
from serving.ids import Rows


@dataclass(frozen=True)
class ListsContent(ArraysFile):
    """What is trending, and what a newcomer is asked about."""

    FILE: ClassVar = "lists.npz"

    trending: npt.NDArray[np.float64]
    """Shape (n_movies,): higher is more trending; 0 for a movie never rated."""
    taste_rows: Rows
    """Movies that are well known and far apart in taste, the one to ask about first in front."""
