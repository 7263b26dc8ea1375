"""Exact SHAP values of an oblivious-tree ensemble from tables: one row of numbers per tree and leaf.

All rows that fall into a leaf of an oblivious tree answered the same questions in the same way, so the
tree's exact SHAP values (Lundberg et al. 2020, path-dependent) depend on the leaf alone. Training writes
them down once; explaining a row adds up one table row per tree. Values equal CatBoost's own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
        # Shape (depth, n_trees, n_rows): to copy a feature of all rows is faster than to pick each value.
        columns = np.ascontiguousarray(features.T)
        greater = columns.take(self.split_features.T, axis=0) > self.split_borders.T[..., None]
        leaves = np.arange(n_trees, dtype=np.int32)[:, None]
        for of_trees in reversed(greater):
            leaves = 2 * leaves + of_trees  # of all trees, one after the other
        values = self.leaf_contributions.reshape(-1, depth).take(leaves.T, axis=0)
        sums = np.zeros((n_rows, n_features + 1))
        slots = self.leaf_features.ravel().astype(np.intp)
        for row, added in zip(sums, values.reshape(n_rows, n_trees * depth), strict=True):
            np.add.at(row, slots, added)
        return sums[:, :n_features]
