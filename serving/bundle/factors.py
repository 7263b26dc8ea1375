"""`ratings.npz`, `item_factors.npz` and the candidate service's own files: writers beside readers."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.manifest import piece
from serving.bundle.store import BundleFolder, write_arrays
from serving.fold_in import AlsParameters, Confidence
from serving.ids import IdMap, Rows
from serving.ratings import Ratings

RATINGS: Final = "ratings"
"""What the names of the files with ratings begin with: one per shard of the users."""
_ARRAYS: Final = ("indptr", "movie_rows", "values", "times")
ITEM_FACTORS_FILE: Final = "item_factors.npz"
_USER_FACTORS: Final = "user_factors"
_ALS_FILE: Final = "als.json"


def write_ratings(folder: Path, ratings: Ratings, shards: Sequence[Rows] = ()) -> None:
    """Writes all ratings, with their users.

    Args:
        folder: where to.
        ratings: of all users.
        shards: user rows of each piece, ascending; none: one piece has all.
    """
    for name, rows in _pieces(RATINGS, shards):
        own = ratings if rows is None else ratings.of_users(rows)
        arrays = {array: getattr(own, array) for array in _ARRAYS}
        write_arrays(folder / name, user_ids=own.users.ids, **arrays)


def read_ratings(folder: BundleFolder) -> Ratings:
    """Reads what `write_ratings` wrote: of the users of the folder's shard, or of all."""
    pieces = [folder.arrays(name, "user_ids", *_ARRAYS) for name in folder.user_pieces(RATINGS)]
    return Ratings.joined(
        [Ratings(IdMap(one["user_ids"]), **{name: one[name] for name in _ARRAYS}) for one in pieces]
    )


@dataclass(frozen=True)
class SeenMovies:
    """Which movies each user has rated: all of the ratings that the gateway needs, 4 bytes each."""

    users: IdMap
    indptr: npt.NDArray[np.int64]
    """Shape (n_users + 1,)."""
    movie_rows: npt.NDArray[np.int32]
    """Shape (n_ratings,)."""

    def of(self, user_id: int) -> npt.NDArray[np.int32]:
        """Movie rows that the user has rated; none for an unknown user."""
        row = self.users.row(user_id)
        if row < 0:
            return self.movie_rows[:0]
        return self.movie_rows[self.indptr[row] : self.indptr[row + 1]]


def read_seen_movies(folder: BundleFolder) -> SeenMovies:
    """Reads of `write_ratings` who has rated what."""
    names = folder.user_pieces(RATINGS)
    if len(names) > 1:
        ratings = read_ratings(folder)
        return SeenMovies(ratings.users, ratings.indptr, ratings.movie_rows)
    arrays = folder.arrays(names[0], "user_ids", "indptr", "movie_rows")
    return SeenMovies(IdMap(arrays["user_ids"]), arrays["indptr"], arrays["movie_rows"])


def write_item_factors(folder: Path, item_factors: npt.NDArray[np.float32]) -> None:
    """Writes the ALS item factors, shape (n_movies, n_factors); zero rows for cold movies."""
    write_arrays(folder / ITEM_FACTORS_FILE, item_factors=item_factors)


def read_item_factors(folder: BundleFolder) -> npt.NDArray[np.float32]:
    """Reads what `write_item_factors` wrote."""
    return folder.arrays(ITEM_FACTORS_FILE, "item_factors")["item_factors"]


def write_user_factors(
    folder: Path,
    user_factors: npt.NDArray[np.float32],
    parameters: AlsParameters,
    shards: Sequence[Rows] = (),
) -> None:
    """Writes the exact user vectors, and what they were fitted with.

    Args:
        folder: where to.
        user_factors: shape (n_users, n_factors); zero rows for users who have none.
        parameters: of ALS.
        shards: user rows of each piece, as those of the ratings; none: one piece has all.
    """
    for name, rows in _pieces(_USER_FACTORS, shards):
        write_arrays(folder / name, user_factors=user_factors if rows is None else user_factors[rows])
    (folder / _ALS_FILE).write_text(json.dumps(asdict(parameters)), encoding="utf-8")


def read_user_factors(folder: BundleFolder) -> tuple[npt.NDArray[np.float32], AlsParameters]:
    """Reads what `write_user_factors` wrote: of the users of the folder's shard, or of all."""
    fields = json.loads(folder.read(_ALS_FILE))
    fields["confidence"] = Confidence(fields["confidence"])
    pieces = [
        folder.arrays(name, "user_factors")["user_factors"] for name in folder.user_pieces(_USER_FACTORS)
    ]
    if len(pieces) == 1:
        return pieces[0], AlsParameters(**fields)
    user_ids = [folder.arrays(name, "user_ids")["user_ids"] for name in folder.user_pieces(RATINGS)]
    return np.concatenate(pieces)[np.argsort(np.concatenate(user_ids))], AlsParameters(**fields)


def _pieces(name: str, shards: Sequence[Rows]) -> Iterator[tuple[str, Rows | None]]:
    """The name of each file, and the user rows that it has; None for all."""
    for index, rows in enumerate(shards or [None]):
        yield f"{name}{piece(index, max(1, len(shards)))}", rows
