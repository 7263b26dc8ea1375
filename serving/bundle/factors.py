"""`ratings.npz`, `item_factors.npz` and the candidate service's own files: writers beside readers."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving.bundle.store import BundleFolder, write_arrays
from serving.fold_in import AlsParameters, Confidence
from serving.ids import IdMap
from serving.ratings import Ratings

RATINGS_FILE = "ratings.npz"
ITEM_FACTORS_FILE = "item_factors.npz"
_USER_FACTORS_FILE = "user_factors.npz"
_ALS_FILE = "als.json"


def write_ratings(folder: Path, ratings: Ratings) -> None:
    """Writes all ratings, with their users."""
    write_arrays(
        folder / RATINGS_FILE,
        user_ids=ratings.users.ids,
        indptr=ratings.indptr,
        movie_rows=ratings.movie_rows,
        values=ratings.values,
        times=ratings.times,
    )


def read_ratings(folder: BundleFolder) -> Ratings:
    """Reads what `write_ratings` wrote."""
    names = ("user_ids", "indptr", "movie_rows", "values", "times")
    arrays = dict(folder.arrays(RATINGS_FILE, *names))
    return Ratings(users=IdMap(arrays.pop("user_ids")), **arrays)


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
    arrays = folder.arrays(RATINGS_FILE, "user_ids", "indptr", "movie_rows")
    return SeenMovies(IdMap(arrays["user_ids"]), arrays["indptr"], arrays["movie_rows"])


def write_item_factors(folder: Path, item_factors: npt.NDArray[np.float32]) -> None:
    """Writes the ALS item factors, shape (n_movies, n_factors); zero rows for cold movies."""
    write_arrays(folder / ITEM_FACTORS_FILE, item_factors=item_factors)


def read_item_factors(folder: BundleFolder) -> npt.NDArray[np.float32]:
    """Reads what `write_item_factors` wrote."""
    return folder.arrays(ITEM_FACTORS_FILE, "item_factors")["item_factors"]


def write_user_factors(
    folder: Path, user_factors: npt.NDArray[np.float32], parameters: AlsParameters
) -> None:
    """Writes the exact user vectors, shape (n_users, n_factors); zero rows for users who have none."""
    write_arrays(folder / _USER_FACTORS_FILE, user_factors=user_factors)
    (folder / _ALS_FILE).write_text(json.dumps(asdict(parameters)), encoding="utf-8")


def read_user_factors(folder: BundleFolder) -> tuple[npt.NDArray[np.float32], AlsParameters]:
    """Reads what `write_user_factors` wrote."""
    fields = json.loads(folder.read(_ALS_FILE))
    fields["confidence"] = Confidence(fields["confidence"])
    user_factors = folder.arrays(_USER_FACTORS_FILE, "user_factors")["user_factors"]
    return user_factors, AlsParameters(**fields)
