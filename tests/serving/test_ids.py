"""Ids and rows, by look-up table where ids are dense and by binary search where they are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ids import IdMap

DENSE = [1, 3, 7]
SPARSE = [1, 3, 10**15]


@pytest.mark.parametrize("ids", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_rows_of_known_and_unknown_ids(ids: list[int]) -> None:
    of = IdMap(ids)
    assert len(of) == 3
    wanted = [ids[2], 0, 1, 2, 3, -1, 2**63 - 1, -(2**63), ids[2] + 1]
    assert of.rows(wanted).tolist() == [2, -1, 0, -1, 1, -1, -1, -1, -1]
    assert [of.row(one) for one in wanted] == [2, -1, 0, -1, 1, -1, -1, -1, -1]
    assert of.rows(ids).tolist() == [0, 1, 2]
    assert of.rows(np.array([[3], [1]])).tolist() == [[1], [0]]
    assert of.rows([]).tolist() == []
    assert of.rows(wanted).dtype == of.rows(ids).dtype == np.dtype(np.int32)


@pytest.mark.parametrize("ids", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_ids_of_rows_cannot_be_altered(ids: list[int]) -> None:
    given_ids = np.array(ids)
    of = IdMap(given_ids)
    given_ids[0] = 2
    assert of.ids.tolist() == ids
    with pytest.raises(ValueError, match="read-only"):
        of.ids[0] = 2


def test_no_ids_know_none() -> None:
    of = IdMap([])
    assert len(of) == 0
    assert of.rows([0, 1, -1]).tolist() == [-1, -1, -1]
    assert [of.row(0), of.row(5)] == [-1, -1]


@pytest.mark.parametrize("ids", [[0], [-1, 1], [2, 1], [1, 1], [[1, 2]], 1])
def test_ids_that_are_not_ascending_from_1_are_refused(ids: object) -> None:
    with pytest.raises(ValueError, match="strictly ascending"):
        IdMap(np.array(ids))


@given(
    ids=st.sets(st.integers(1, 40) | st.integers(1, 2**63 - 1), min_size=1),
    wanted=st.lists(st.integers(-3, 45) | st.integers(-(2**63), 2**63 - 1)),
)
def test_rows_are_those_of_a_dictionary(ids: set[int], wanted: list[int]) -> None:
    row_of = {one: row for row, one in enumerate(sorted(ids))}
    of = IdMap(sorted(ids))
    for some in (wanted, [*wanted, *ids]):
        expected = [row_of.get(one, -1) for one in some]
        assert of.rows(some).tolist() == expected
        assert [of.row(one) for one in some] == expected
