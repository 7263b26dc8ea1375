"""Exact SHAP values of an oblivious-tree ensemble from tables: one row of numbers per tree and leaf.

All rows that fall into a leaf of an oblivious tree answered the same questions in the same way, so the
tree's exact SHAP values (Lundberg et al. 2020, path-dependent) depend on the leaf alone. Training writes
them down once; explaining a row adds up one table row per tree. Values equal CatBoost's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt


class Contribution(NamedTuple):
    """What one feature added to a movie's score (SHAP). A tuple: a call may ask for 20,000 of them."""

    feature: str
    value: float | None
    """What the ranker saw; None when it was missing."""
    contribution: float


Explanation: TypeAlias = tuple[Contribution, ...]
"""Why a movie got its score: the largest absolute contribution first."""


@dataclass(frozen=True)
class LeafTables:
    """SHAP values by tree and leaf. Trees may have fewer splits than the deepest; they are padded."""

    split_features: npt.NDArray[np.int32]
    """Shape (n_trees, depth): the feature that split i of a tree asks for; 0 for padding."""
    split_borders: npt.NDArray[np.float32]
    """Shape (n_trees, depth): bit i of the leaf index is set when value > border; +inf for padding."""
    leaf_features: npt.NDArray[np.int32]
    """Shape (n_trees, depth): the tree's distinct features; n_features for padding."""
    leaf_contributions: npt.NDArray[np.float64]
    """Shape (n_trees, 2**depth, depth): contribution of each distinct feature at each leaf."""
    base_value: float
    """Expected value of the model: with all contributions of a row it adds up to the row's score."""

    def contributions(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Exact SHAP values, shape as `features`: (n_rows, n_features). NaN counts as not greater."""
        n_rows, n_features = features.shape
        n_trees, depth = self.split_features.shape
        # Small whole numbers are exact in float32, and a product of integers is five times slower.
        powers = np.exp2(np.arange(depth, dtype=np.float32))
        greater = features[:, self.split_features] > self.split_borders
        leaf_places = (greater @ powers).astype(np.intp)
        leaves = leaf_places + (np.arange(n_trees) << depth)  # of all trees, one after the other
        values = self.leaf_contributions.reshape(-1, depth).take(leaves, axis=0)
        columns = np.arange(n_rows)[:, None, None] * (n_features + 1) + self.leaf_features
        sums: npt.NDArray[np.float64] = np.bincount(
            columns.ravel(), weights=values.ravel(), minlength=n_rows * (n_features + 1)
        ).astype(np.float64, copy=False)
        return sums.reshape(n_rows, n_features + 1)[:, :n_features]

    def strongest(
        self, features: npt.NDArray[np.float32], names: Sequence[str], limit: int
    ) -> tuple[Explanation, ...]:
        """Each row's largest contributions by absolute value, ties in feature order.

        Args:
            features: shape (n_rows, n_features).
            names: of the features, in column order.
            limit: contributions per row.
        """
        contributions = self.contributions(features)
        columns = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :limit]
        values = np.take_along_axis(features, columns, axis=1).astype(object)
        values[np.take_along_axis(np.isnan(features), columns, axis=1)] = None
        parts = (
            np.array(names, object)[columns],
            values,
            np.take_along_axis(contributions, columns, axis=1),
        )
        return tuple(
            tuple(map(Contribution, *row)) for row in zip(*(part.tolist() for part in parts), strict=True)
        )
