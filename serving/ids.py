"""External ids and internal rows, and the one place where they meet."""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]
"""External identifiers: user_id or movie_id, at least 1."""

Rows: TypeAlias = npt.NDArray[np.int32]
"""Internal rows, 0 to n - 1; -1 stands for an unknown id."""

NO_IDS: Final[Ids] = np.empty(0, np.int64)
"""None at all."""

NO_ROWS: Final[Rows] = np.empty(0, np.int32)
"""None at all."""


def all_differ(ids: npt.NDArray[np.integer]) -> bool:
    """Whether no id comes twice; three times as fast as a set of 300."""
    ordered = np.sort(ids)
    return not (ordered[1:] == ordered[:-1]).any()


# Below this spread a look-up table costs a few MB at most and answers 300 ids in 1 µs, where a binary
# search takes 20.
_TABLE_SLOTS_PER_ID: Final = 64
_TABLE_SLOTS_FREE: Final = 1_000_000


class IdMap:
    """Maps external ids to rows 0 to n - 1 and back. Immutable; ids ascend, so rows order as ids do.

    Args:
        ids: shape (n,), strictly ascending, each at least 1.

    Raises:
        ValueError: the ids are not strictly ascending, or below 1.
    """

    def __init__(self, ids: npt.ArrayLike) -> None:
        array = np.array(ids, dtype=np.int64)
        if array.ndim != 1 or (array.size and (array[0] < 1 or np.any(np.diff(array) <= 0))):
            raise ValueError("ids must be one-dimensional, at least 1 and strictly ascending")
        array.flags.writeable = False
        self.ids: Ids = array
        self._table: Rows | None = None
        slots = (int(array[-1]) if array.size else 0) + 2  # the first and the last stand for unknown ids
        if slots <= _TABLE_SLOTS_FREE + _TABLE_SLOTS_PER_ID * array.size:
            self._table = np.full(slots, -1, dtype=np.int32)
            self._table[array] = np.arange(array.size, dtype=np.int32)

    def __len__(self) -> int:
        return self.ids.size

    def rows(self, ids: npt.ArrayLike) -> Rows:
        """Rows of `ids`, in their order, shape as given; -1 where an id is unknown."""
        wanted = np.asarray(ids, dtype=np.int64)
        if self._table is not None:
            return self._table.take(wanted, mode="clip")
        places = np.searchsorted(self.ids, wanted)
        places[places == self.ids.size] = 0
        return np.where(self.ids[places] == wanted, places, -1).astype(np.int32)

    def row(self, external_id: int) -> int:
        """Row of one id; -1 when it is unknown."""
        if self._table is not None:
            return int(self._table[external_id]) if 0 <= external_id < self._table.size else -1
        place = int(np.searchsorted(self.ids, external_id))
        return place if place < self.ids.size and self.ids[place] == external_id else -1
