"""How a candidate's genres match those of the last movies that the user rated."""

from typing import ClassVar, Final

import numpy as np
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup

_LAST: Final = 20


class RecentGenreFeatures(FeatureGroup):
    """Share of the user's last movies that have the candidate's genres, in the mean over these."""

    NAME: ClassVar = "recent_genres"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature(
            "genre_share_last20",
            "of genres that {value:.0%} of your last 20 movies have",
            "of genres that none of your last 20 movies has",
        ),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        flags, genre_shares = self.catalogue.genre_flags, self.catalogue.genre_shares
        (column,) = out
        # One product per user: the bits of a product depend on its size.
        for query, rows in zip(call.queries, call.slices, strict=True):
            rated = flags.take(query.history.movie_rows[-_LAST:], axis=0)
            share = rated.sum(axis=0) / np.float32(max(len(rated), 1))
            column[rows] = genre_shares.take(query.movie_rows, axis=0) @ share
