"""Every user's list of a published bundle: what the servers would answer, in one parquet file."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import parquet
from typing_extensions import override

from serving.ids import Rows
from training.checkpoints import Checkpoints
from training.engine.engine import Arrays, Engine, Work
from training.models.recommenders import POPULARITY, TwoStageRecommender

_USERS_PER_SHARD: Final = 1_000
_SCHEMA: Final = pa.schema(
    {
        "user_id": pa.int64(),
        "movie_ids": pa.list_(pa.int32()),
        "scores": pa.list_(pa.float64()),
        "model": pa.string(),
        "bundle_id": pa.string(),
    }
)


@dataclass(frozen=True)
class ListsOfUsers(Work):
    """Makes the lists of some users of a bundle."""

    HOLDS_INTERPRETER: ClassVar = True

    bundle: Path
    """Its folder, on every machine that works."""
    limit: int
    """Movies per list."""

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        recommender = TwoStageRecommender.load(self.bundle)
        ids = recommender.catalogue.movies.ids.ids

        def lists(shard: Arrays) -> Arrays:
            found = list(recommender.lists(shard["user_rows"], self.limit))
            return {
                "user_ids": recommender.catalogue.ratings.users.ids[shard["user_rows"]],
                "sizes": np.array([one.movie_rows.size for one in found], np.int32),
                "movie_ids": ids[np.concatenate([one.movie_rows for one in found])].astype(np.int32),
                "scores": np.concatenate([one.scores for one in found]),
                "popular": np.array([one.n_own == 0 for one in found]),
            }

        return lists


def fill(
    bundle: Path, n_users: int, limit: int, out: Path, *, engine: Engine, advance: Callable[[], None]
) -> int:
    """Writes a row per user, in ascending user_id, to a file that appears when it is whole.

    What is finished is kept beside the file: a job that was killed goes on where it was, and ends with the
    same bytes, whatever the engine. `advance` is called after each of `n_shards(n_users)` parts.

    Returns:
        Lists that were made now, and not found.
    """
    checkpoints = Checkpoints.of(out.parent, f"fill-{out.name}", bundle.name, str(limit))
    shards = shards_of(np.arange(n_users, dtype=np.int32))
    missing = [shard for place, shard in enumerate(shards) if not checkpoints.has(f"users-{place}")]
    made = engine.shards(missing).map(ListsOfUsers(bundle, limit)).collect()
    aside = out.with_name(f".{out.name}")
    with parquet.ParquetWriter(aside, _SCHEMA) as writer:
        for place in range(len(shards)):
            lists = checkpoints.step(f"users-{place}", lambda: next(made))
            writer.write_table(table_of(lists, bundle.name))
            advance()
    aside.replace(out)
    checkpoints.forget()
    return sum(shard["user_rows"].size for shard in missing)


def n_shards(n_users: int) -> int:
    """Parts that the users are divided into."""
    return math.ceil(n_users / _USERS_PER_SHARD)


def shards_of(user_rows: Rows) -> list[Arrays]:
    """The users, some at a time."""
    parts = np.split(user_rows, range(_USERS_PER_SHARD, user_rows.size, _USERS_PER_SHARD))
    return [{"user_rows": part} for part in parts]


def table_of(lists: Arrays, bundle_id: str) -> pa.Table:
    """What `ListsOfUsers` made, as rows of the file."""
    ends = np.concatenate([[0], np.cumsum(lists["sizes"])]).astype(np.int32)
    models = np.where(lists["popular"], POPULARITY, TwoStageRecommender.name)
    columns = [
        pa.array(lists["user_ids"]),
        pa.ListArray.from_arrays(ends, lists["movie_ids"]),
        pa.ListArray.from_arrays(ends, lists["scores"]),
        pa.array(models.tolist(), pa.string()),
        pa.array([bundle_id] * models.size, pa.string()),
    ]
    return pa.table(columns, schema=_SCHEMA)
