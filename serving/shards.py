"""Which shard a user belongs to, where users are split over several: a hash of user_id that never changes.

It is the finalizer of SplitMix64 (Steele, Lea and Flood 2014), modulo the number of shards: bundles are
written by it, servers hold what it gives them, and the gateway sends each user where it leads.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from typing_extensions import override

from serving.errors import FailedPreconditionError, Reason
from serving.ids import Ids, Rows

MAX_USER_SHARDS: Final = 100
"""Golden values of each stand in the manifest, which has a limit of its own."""

USER_SHARD_HEADER: Final = "x-movierec-user-shard"
"""Of a call to a stage whose users are split: `k/N`, the shard that all users of the call belong to."""

_64_BITS: Final = 2**64 - 1
_TEXT: Final = re.compile(r"(0|[1-9]\d{0,2})/([1-9]\d{0,2})")


@dataclass(frozen=True)
class UserShard:
    """One of `count` parts of all users."""

    index: int
    """0 to count - 1."""
    count: int
    """1 to `MAX_USER_SHARDS`."""

    @override
    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def of_text(cls, text: str) -> "UserShard":
        """The shard that `k/N` names.

        Raises:
            ValueError: it names none.
        """
        match = _TEXT.fullmatch(text)
        if match is None or not int(match[1]) < int(match[2]) <= MAX_USER_SHARDS:
            raise ValueError(f"must be k/N, as 0/2: shard k, from 0, of at most {MAX_USER_SHARDS}")
        return cls(int(match[1]), int(match[2]))

    def require(self, user_ids: Iterable[int]) -> None:
        """Checks that users belong to it; 0 stands for nobody, whom any server may answer.

        Raises:
            FailedPreconditionError: one does not.
        """
        for user_id in user_ids:
            if user_id and (index := shard_of(user_id, self.count)) != self.index:
                asked = UserShard(index, self.count)
                raise FailedPreconditionError(
                    f"A user of the call belongs to shard {asked}, and this server serves shard {self}.",
                    reason=Reason.WRONG_USER_SHARD,
                    requested=str(asked),
                    held=str(self),
                )


def shard_of(user_id: int, count: int) -> int:
    """The shard of one user, 0 to count - 1."""
    return int(hashed(user_id) % count)


def rows_by_shard(user_ids: Ids, count: int) -> list[Rows]:
    """The places of each shard's users in `user_ids`, ascending."""
    shards = hashed(user_ids.astype(np.uint64)) % np.uint64(count)
    return [np.flatnonzero(shards == index).astype(np.int32) for index in range(count)]


def hashed(value: Any) -> Any:
    """Of an int, or of an array of uint64, whose arithmetic drops by itself what the masks do."""
    return mixed((value + 0x9E3779B97F4A7C15) & _64_BITS)


def mixed(value: Any) -> Any:
    """The finalizer alone, one to one, of what `hashed` takes."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return value ^ (value >> 31)
