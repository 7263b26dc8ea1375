"""How close a candidate is to what the user rated last, by ALS factors."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.cosines import CosineFeatures
from serving.features.group import Feature


class FactorFeatures(CosineFeatures):
    """Mean cosines of the candidate's ALS factors with those of the last movies that the user rated."""

    NAME: ClassVar = "factors"
    VERSION: ClassVar = 1
    LAST: ClassVar = (1, 5, 20)
    FEATURES: ClassVar = (
        Feature(
            "cos_last1", "liked by the same people as {movie}", "not liked by the same people as {movie}"
        ),
        Feature("cos_last5", "close to your last 5 movies", "not close to your last 5 movies"),
        Feature("cos_last20", "close to your last 20 movies", "not close to your last 20 movies"),
    )

    @property
    @override
    def unit_vectors(self) -> npt.NDArray[np.float32]:
        return self.catalogue.item_unit_factors
