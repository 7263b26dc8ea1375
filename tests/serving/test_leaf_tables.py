"""Adding up contributions on two trees of one and two splits. CatBoost's own values: tests/training."""

import numpy as np
import pytest

from serving.leaf_tables import LeafTables

# Tree 0: x1 > 0.5 (bit 0), x0 > 2 (bit 1); leaves 00, 01, 10, 11. Tree 1: x1 > 1.5, padded to two splits.
TABLES = LeafTables(
    split_features=np.array([[1, 0], [1, 0]], dtype=np.int32),
    split_borders=np.array([[0.5, 2], [1.5, np.inf]], dtype=np.float32),
    leaf_features=np.array([[0, 1], [1, 3]], dtype=np.int32),
    leaf_contributions=np.array(
        [[[-1, -10], [-1, 10], [1, -10], [2, 20]], [[100, 0], [200, 0], [0, 0], [0, 0]]], dtype=np.float64
    ),
    base_value=0.5,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0, 0, 9], [-1, 90, 0]),
        ([0, 1, 9], [-1, 110, 0]),
        ([3, 0, 9], [1, 90, 0]),
        ([3, 1, 9], [2, 120, 0]),
        ([3, 2, 9], [2, 220, 0]),
        ([2, 0.5, 9], [-1, 90, 0]),  # equal is not greater
        ([NAN, NAN, NAN], [-1, 90, 0]),
        ([np.inf, np.inf, -np.inf], [2, 220, 0]),
    ],
    ids=str,
)
def test_contributions(row: list[float], expected: list[float]) -> None:
    assert TABLES.contributions(np.array([row], dtype=np.float32)).tolist() == [expected]


def test_rows_do_not_depend_on_one_another() -> None:
    rows = np.array([[3, 2, 9], [0, 0, 9], [3, 2, 9]], dtype=np.float32)
    together = TABLES.contributions(np.asfortranarray(rows))
    assert together.tolist() == [[2, 220, 0], [-1, 90, 0], [2, 220, 0]]
    assert TABLES.contributions(rows[:0]).shape == (0, 3)
