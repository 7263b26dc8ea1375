"""Builds the leaf tables of a CatBoost model: exact SHAP values, checked against CatBoost's own."""

import json
from itertools import combinations
from math import factorial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost, Pool

from serving.leaf_tables import LeafTables

_TOLERANCE: Final = 1e-9


class LeafTablesError(Exception):
    """The model is not one that leaf tables can explain, or they disagree with CatBoost."""


def build_leaf_tables(model: CatBoost, sample: npt.NDArray[np.float32]) -> LeafTables:
    """Reads the trees from the model's JSON export and writes down each leaf's SHAP values.

    They are checked against CatBoost's own on the rows of `sample`, shape (n_rows, n_features).

    Raises:
        LeafTablesError: a tree is not symmetric or numeric, NaN is not on the "not greater" side, or a
            value differs from CatBoost's by more than 1e-9.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        exported = json.loads(path.read_text(encoding="utf-8"))
    if "oblivious_trees" not in exported or exported["features_info"].get("categorical_features"):
        raise LeafTablesError("leaf tables need symmetric trees over numeric features")
    for feature in exported["features_info"]["float_features"]:
        if feature.get("has_nans") and feature["nan_value_treatment"] != "AsFalse":
            raise LeafTablesError('leaf tables need nan_mode="Min"')
    trees = exported["oblivious_trees"]
    scale, (bias,) = exported["scale_and_bias"]
    n_features = sample.shape[1]
    depth = max(len(tree["splits"] or ()) for tree in trees)
    split_features = np.zeros((len(trees), depth), dtype=np.int32)
    split_borders = np.full((len(trees), depth), np.inf, dtype=np.float32)
    leaf_features = np.full((len(trees), depth), n_features, dtype=np.int32)
    contributions = np.zeros((len(trees), 2**depth, depth))
    base_value = bias
    for t, tree in enumerate(trees):
        splits = tree["splits"] or []
        asked = np.array([split["float_feature_index"] for split in splits], dtype=np.int32)
        split_features[t, : asked.size] = asked
        split_borders[t, : asked.size] = [split["border"] for split in splits]
        distinct = np.unique(asked)
        leaf_features[t, : distinct.size] = distinct
        values, expected = _tree_shap(
            asked,
            distinct,
            np.array(tree["leaf_values"], dtype=np.float64) * scale,
            np.array(tree["leaf_weights"], dtype=np.float64),
        )
        contributions[t, : values.shape[0], : distinct.size] = values
        base_value += expected
    tables = LeafTables(split_features, split_borders, leaf_features, contributions, float(base_value))
    _check(model, tables, sample)
    return tables


def _tree_shap(
    asked: npt.NDArray[np.int32],
    distinct: npt.NDArray[np.int32],
    leaf_values: npt.NDArray[np.float64],
    leaf_weights: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], float]:
    """SHAP values of one tree, shape (2**n_splits, n_distinct), and its expected value.

    The value of a feature subset at a leaf answers the splits of known features as the leaf does, and
    averages over the others by cover. Shapley values follow by enumerating the subsets.
    """
    values = {
        subset: _known_value(asked, frozenset(subset), leaf_values, leaf_weights)
        for size in range(distinct.size + 1)
        for subset in combinations(distinct.tolist(), size)
    }
    shap = np.zeros((leaf_values.size, distinct.size))
    n = distinct.size
    for j, feature in enumerate(distinct.tolist()):
        for subset, without in values.items():
            if feature not in subset:
                k = len(subset)
                weight = factorial(k) * factorial(n - k - 1) / factorial(n)
                shap[:, j] += weight * (values[tuple(sorted((*subset, feature)))] - without)
    return shap, float(values[()][0])


def _known_value(
    asked: npt.NDArray[np.int32],
    known: frozenset[int],
    leaf_values: npt.NDArray[np.float64],
    leaf_weights: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Expected leaf value when only `known` features are known, shape (2**n_splits,).

    Bit i of a leaf is split i. The root of CatBoost's recursion is the last split, so the mean is taken
    from split 0 upwards; an empty side weighs nothing, and where both are empty the mean is plain.
    """
    values, weights = leaf_values.copy(), leaf_weights.copy()
    leaves = np.arange(values.size)
    for i, feature in enumerate(asked.tolist()):
        low, high = leaves & ~(1 << i), leaves | (1 << i)
        total = weights[low] + weights[high]
        if feature not in known:
            mixed = weights[low] * values[low] + weights[high] * values[high]
            values = np.divide(mixed, total, out=(values[low] + values[high]) / 2, where=total > 0)
        weights = total
    return values


def _check(model: CatBoost, tables: LeafTables, sample: npt.NDArray[np.float32]) -> None:
    own = model.get_feature_importance(Pool(sample), type="ShapValues")
    ours = tables.contributions(sample)
    worst = max(np.abs(own[:, :-1] - ours).max(), np.abs(own[:, -1] - tables.base_value).max())
    if not worst <= _TOLERANCE:
        raise LeafTablesError(f"leaf tables differ from CatBoost's SHAP values by {worst:.1e}")
