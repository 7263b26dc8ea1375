"""Which shard a user belongs to: the same one for good, in every process."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import FailedPreconditionError, Reason
from serving.shards import UserShard, rows_by_shard, shard_of


def test_the_hash_is_the_published_one() -> None:
    """The first outputs of SplitMix64 from the seeds 0 and 1: bundles that are out there rely on them."""
    largest = 2**61  # more than any remainder tells of
    assert shard_of(0, largest) == 0xE220A8397B1DCDAF % largest
    assert shard_of(1, largest) == 0x910A2DEC89025CC1 % largest


@given(st.lists(st.integers(1, 2**63 - 1), unique=True, max_size=50).map(sorted), st.integers(1, 100))
def test_each_user_is_in_one_shard_and_one_alone_says_the_same(user_ids: list[int], count: int) -> None:
    ids = np.array(user_ids, dtype=np.int64)
    pieces = rows_by_shard(ids, count)
    assert np.sort(np.concatenate(pieces)).tolist() == list(range(len(user_ids)))
    for index, rows in enumerate(pieces):
        assert all(shard_of(user_id, count) == index for user_id in ids[rows].tolist())


def test_shards_are_of_one_size() -> None:
    sizes = [rows.size for rows in rows_by_shard(np.arange(1, 10_001), 4)]
    assert all(2_350 < size < 2_650 for size in sizes)


def test_text_and_back() -> None:
    assert UserShard.of_text("3/12") == UserShard(3, 12)
    assert str(UserShard(3, 12)) == "3/12"


@pytest.mark.parametrize("text", ["", "0", "2/2", "-1/2", "0/0", "0/101", "00/2", "0/2 ", "a/b", "0/2/3"])
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("must be k/N, as 0/2")):
        UserShard.of_text(text)


def test_users_of_another_shard_are_refused() -> None:
    own = next(user for user in range(1, 100) if shard_of(user, 2) == 0)
    other = next(user for user in range(1, 100) if shard_of(user, 2) == 1)
    UserShard(0, 2).require([own, 0])  # 0 is nobody
    with pytest.raises(FailedPreconditionError, match="belongs to shard 1/2, and this server") as caught:
        UserShard(0, 2).require([own, other])
    assert caught.value.reason is Reason.WRONG_USER_SHARD
    assert caught.value.metadata == {"requested": "1/2", "held": "0/2"}
