"""How close a candidate is to what the user rated last, by vectors of what is rated in the same sittings."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.cosines import CosineFeatures
from serving.features.group import Feature


@dataclass(frozen=True)
class EmbeddingFeatures(CosineFeatures):
    """Mean cosines of the candidate's embedding with those of the last movies that the user rated."""

    NAME: ClassVar = "embeddings"
    VERSION: ClassVar = 1
    LAST: ClassVar = (1, 5, 20)
    FEATURES: ClassVar = (
        Feature("near_last1", "rated near the same movies as {movie}", "rated near others than {movie}"),
        Feature(
            "near_last5",
            "rated near the same movies as your last 5",
            "rated near other movies than your last 5",
        ),
        Feature(
            "near_last20",
            "rated near the same movies as your last 20",
            "rated near other movies than your last 20",
        ),
    )

    vectors: npt.NDArray[np.float32]
    """Shape (n_movies, n_dimensions): of length one; a zero row where there is none."""

    @property
    @override
    def unit_vectors(self) -> npt.NDArray[np.float32]:
        return self.vectors
