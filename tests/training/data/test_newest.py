"""The time of the newest rating, on times that can be checked by eye."""

import numpy as np
import pytest

from training.data.newest import newest_time

YEAR = 365 * 24 * 60 * 60


@pytest.mark.parametrize(
    ("ahead", "newest"),
    [
        ([], 1_997),
        ([1_997 + YEAR], 1_997 + YEAR),
        ([1_998 + YEAR, 2**32 - 1], 1_997),
        ([2**31, 2**31 + 1, 2**32 - 1], 2**31 + 1),
    ],
    ids=["none", "within a year", "two beyond", "three"],
)
def test_one_in_a_thousand_may_be_wrong(ahead: list[int], newest: int) -> None:
    assert newest_time(np.array([*range(1_998), *ahead])) == newest


def test_of_few_ratings_none_is_taken_for_wrong() -> None:
    assert newest_time(np.array([2**32 - 1])) == 2**32 - 1
    assert newest_time(np.array([1, 2**32 - 1])) == 2**32 - 1
