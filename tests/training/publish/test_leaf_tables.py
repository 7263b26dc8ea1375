"""Leaf tables against CatBoost's own SHAP values, on the models that are hard for them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from catboost import CatBoost, Pool, sum_models

from serving.leaf_tables import LeafTables
from training.publish import leaf_tables
from training.publish.leaf_tables import LeafTablesError, build_leaf_tables

Floats = npt.NDArray[np.float32]

N_FEATURES = 6


def rows(n: int, *, seed: int, missing: float = 0.1) -> Floats:
    """Normal, coarse, binary and constant columns; some values missing."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    features[:, 1] = np.round(features[:, 1])
    features[:, 2] = features[:, 2] > 0
    features[:, 5] = 1
    features[:, :4][rng.random((n, 4)) < missing] = np.nan
    return np.asfortranarray(features)


def labels(features: Floats) -> Floats:
    known = np.nan_to_num(features)
    interaction = known[:, 0] * known[:, 2] + np.sin(3 * known[:, 1]) + 0.5 * (known[:, 0] > 1)
    return (interaction > 0.3).astype(np.float32)


def fitted(loss: str, *, missing: float = 0.1, **options: Any) -> CatBoost:
    features = rows(2_000, seed=0, missing=missing)
    model = CatBoost(
        {
            "loss_function": loss,
            "iterations": 30,
            "learning_rate": 0.2,
            "depth": 6,
            "random_seed": 0,
            "thread_count": 1,
            "allow_writing_files": False,
            "verbose": False,
            "nan_mode": "Min",
            **options,
        }
    )
    model.fit(Pool(features.copy(order="F"), label=labels(features), group_id=np.arange(2_000) // 20))
    return model


def assert_equals_catboost(model: CatBoost, tables: LeafTables, features: Floats) -> None:
    own = model.get_feature_importance(Pool(features.copy(order="F")), type="ShapValues")
    ours = tables.contributions(features)
    assert np.abs(own[:, :-1] - ours).max() < 1e-9
    assert np.abs(own[:, -1] - tables.base_value).max() < 1e-9
    scores = model.predict(features.copy(order="F"), prediction_type="RawFormulaVal")
    assert np.abs(ours.sum(axis=1) + tables.base_value - scores).max() < 1e-9


def tables_of(model: CatBoost) -> LeafTables:
    return build_leaf_tables(model, rows(50, seed=1))


@pytest.mark.parametrize("loss", ["Logloss", "YetiRank"])
@pytest.mark.parametrize("depth", [1, 3, 6])
def test_equals_catboost_on_random_rows_with_missing_values(loss: str, depth: int) -> None:
    model = fitted(loss, depth=depth)
    tables = tables_of(model)
    assert tables.leaf_contributions.shape == (30, 2**depth, depth)
    assert_equals_catboost(model, tables, rows(1_000, seed=2, missing=0.3))


def test_trees_that_ask_for_one_feature_twice_and_trees_of_fewer_splits() -> None:
    """Two binary features have two questions to ask: no tree gets six splits."""
    tables = tables_of(fitted("Logloss"))
    distinct = (tables.leaf_features < N_FEATURES).sum(axis=1)
    splits = np.isfinite(tables.split_borders).sum(axis=1)
    assert np.any(distinct < splits)

    features = rows(2_000, seed=0)
    coarse = np.asfortranarray((features > 0).astype(np.float32))
    coarse[:, 2:] = 0
    shallow = CatBoost(
        {"loss_function": "Logloss", "iterations": 20, "depth": 6, "verbose": False, "thread_count": 1}
        | {"allow_writing_files": False, "random_seed": 0}
    )
    shallow.fit(Pool(coarse.copy(order="F"), label=labels(features)))
    tables = build_leaf_tables(shallow, coarse[:50])
    assert tables.split_features.shape[1] < 6
    assert_equals_catboost(shallow, tables, coarse[:1_000])


def test_trees_of_different_depths_in_one_model() -> None:
    deep, flat = fitted("Logloss", depth=5), fitted("Logloss", depth=2)
    both = sum_models([deep, flat], weights=[1.0, 0.5])
    tables = tables_of(both)
    assert set(np.isfinite(tables.split_borders).sum(axis=1).tolist()) >= {2, 5}
    assert_equals_catboost(both, tables, rows(1_000, seed=2))


def test_a_model_of_another_bias() -> None:
    model = fitted("Logloss")
    model.set_scale_and_bias(1.0, -0.75)
    assert_equals_catboost(model, tables_of(model), rows(1_000, seed=2))


def test_values_never_missing_in_training_may_be_missing_later() -> None:
    model = fitted("Logloss", missing=0.0)
    assert_equals_catboost(model, tables_of(model), rows(1_000, seed=2, missing=0.3))


def test_values_on_a_border() -> None:
    model = fitted("Logloss")
    tables, features = tables_of(model), rows(1_000, seed=3)
    borders = np.isfinite(tables.split_borders)
    for feature in range(N_FEATURES):
        own = tables.split_borders[borders & (tables.split_features == feature)]
        if own.size:
            features[:, feature] = np.resize(own, 1_000)
    assert_equals_catboost(model, tables, features)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grow_policy": "Lossguide"}, "symmetric trees"),
        ({"grow_policy": "Depthwise"}, "symmetric trees"),
        ({"nan_mode": "Max"}, "nan_mode"),  # missing values on the greater side
    ],
)
def test_trees_of_another_kind_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(LeafTablesError, match=words):
        tables_of(fitted("Logloss", **options))


def test_categories_are_refused() -> None:
    features = [[category, value] for category, value in zip("abcd" * 50, range(200), strict=True)]
    model = CatBoost(
        {"loss_function": "Logloss", "iterations": 5, "verbose": False, "allow_writing_files": False}
    )
    model.fit(Pool(features, label=[0, 1, 1, 0] * 50, cat_features=[0]))
    with pytest.raises(LeafTablesError, match="numeric features"):
        build_leaf_tables(model, rows(50, seed=1)[:, :2])


def test_tables_that_disagree_with_catboost_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = leaf_tables._tree_shap  # noqa: SLF001

    def wrong(*arguments: Any) -> Any:
        """Right but for a ten-millionth."""
        values, expected = genuine(*arguments)
        return values + 1e-7, expected

    model = fitted("Logloss", iterations=1)
    monkeypatch.setattr(leaf_tables, "_tree_shap", wrong)
    with pytest.raises(LeafTablesError, match=r"differ from CatBoost's SHAP values by 1\.0e-07"):
        tables_of(model)
