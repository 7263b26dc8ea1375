"""Ids and rows, by look-up table where ids are dense and by binary search where they are not."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.ids import IdMap


def test_rows_have_the_shape_of_ids() -> None:
    of = IdMap([1, 3, 7])
    assert len(of) == 3
    assert of.rows(np.array([[3], [1]])).tolist() == [[1], [0]]
    assert of.rows([]).tolist() == []


def test_ids_of_rows_cannot_be_altered() -> None:
    given_ids = np.array([1, 3, 7])
    of = IdMap(given_ids)
    given_ids[0] = 2
    assert of.ids.tolist() == [1, 3, 7]
    with pytest.raises(ValueError, match="read-only"):
        of.ids[0] = 2


@pytest.mark.parametrize("ids", [[0], [-1, 1], [2, 1], [1, 1], [[1, 2]], 1])
def test_ids_that_are_not_ascending_from_1_are_refused(ids: object) -> None:
    with pytest.raises(ValueError, match="strictly ascending"):
        IdMap(np.array(ids))


@given(
    ids=st.sets(st.integers(1, 40)) | st.sets(st.integers(1, 40) | st.integers(1, 2**63 - 1)),
    wanted=st.lists(st.integers(-3, 45) | st.integers(-(2**63), 2**63 - 1)),
)
@example(ids=set(), wanted=[0, 1, -1, 5])
@example(ids={1, 3, 7}, wanted=[7, 0, 2, -1, 2**63 - 1, -(2**63), 8])
@example(ids={1, 3, 10**15}, wanted=[10**15, 0, 2, -1, 2**63 - 1, -(2**63), 10**15 + 1])
def test_rows_are_those_of_a_dictionary(ids: set[int], wanted: list[int]) -> None:
    row_of = {one: row for row, one in enumerate(sorted(ids))}
    of = IdMap(sorted(ids))
    assert len(of) == len(ids)
    for some in (wanted, [*wanted, *ids]):
        expected = [row_of.get(one, -1) for one in some]
        assert of.rows(some).tolist() == expected
        assert of.rows(some).dtype == np.dtype(np.int32)
        assert [of.row(one) for one in some] == expected
