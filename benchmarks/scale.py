"""What a size takes, from measured units: `python -m benchmarks.scale --help`, and docs/scale.md on them.

Users are really split: as many as there are, with ratings as unequal as those of people, by the hash that
bundles are written by. The rest is arithmetic.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import typer

from serving.retrieval import LARGE_CATALOGUE
from serving.shards import MAX_USER_SHARDS, rows_by_shard

_RATING_BYTES: Final = 16
_RATING_BYTES_GATEWAY: Final = 16
_USER_BYTES: Final = 528
_MOVIE_BYTES_CANDIDATE: Final = 1_024
_MOVIE_BYTES_RANKING: Final = 2_900
_RATING_BYTES_TRAINING: Final = 186
_FACTOR_BYTES: Final = 512
"""Of a user or movie: 128 factors."""
_RELOADING: Final = 2
"""A new bundle is loaded beside the old one."""
_FIT_SECONDS: Final = 7.4e-6
"""Of one fit of stage one on one core, a rating."""
_FILL_SECONDS: Final = 0.57e-3
"""Of a list for everybody, on one core."""
_ANSWER_SECONDS: Final = {"gateway": 0.7e-3, "ranking": 0.7e-3, "candidate": 0.6e-3}
_SCAN_SECONDS: Final = 4.7e-9
"""Of candidates, for each movie of a large catalogue besides."""
_PRODUCT_SECONDS: Final = 70e-9
"""The same of `fill`, which multiplies."""
_LOAD: Final = 0.7
"""Share of a core that is planned with."""
_LEAST_REPLICAS: Final = 2
_DEVIATION: Final = 1.0
"""Of the logarithm of ratings per user."""
_USERS_AT_ONCE: Final = 2_000_000
_GB: Final = 1e9


@dataclass(frozen=True)
class Size:
    """Of a data set."""

    ratings: int
    users: int
    movies: int


@dataclass(frozen=True)
class Replicas:
    """One kind of server, of which each shard has some."""

    process: str
    shards: int
    per_shard: int
    gb: float
    """Memory of one, while it loads a new bundle beside the old one."""

    @property
    def total_gb(self) -> float:
        """Of all of them."""
        return self.shards * self.per_shard * self.gb


def main(
    ratings: Annotated[float, typer.Option(min=1)] = 1e10,
    users: Annotated[float, typer.Option(min=1, max=1e9)] = 1e8,
    movies: Annotated[float, typer.Option(min=1)] = 1e6,
    replica_gb: Annotated[float, typer.Option(min=1, help="Memory of one server's machine.")] = 64.0,
    per_second: Annotated[float, typer.Option(min=1, help="Lists.")] = 1_000.0,
) -> None:
    """Prints shards, replicas, memory and processor time for a size and a load."""
    size = Size(int(ratings), int(users), int(movies))
    title = f"{size.ratings:,} ratings of {size.users:,} users by {size.movies:,} movies"
    shards, fullest = 1, 1.0
    while _candidate_gb(size, fullest) > replica_gb and shards < MAX_USER_SHARDS:
        shards = min(MAX_USER_SHARDS, max(shards + 1, _even_shards(size, replica_gb)))
        fullest = _fullest_share(size.users, shards)
    if (needed := _candidate_gb(size, fullest)) > replica_gb:
        typer.echo(f"{title}: of {shards} shards a replica of candidate needs {needed:,.0f} GB")
        raise typer.Exit(1)
    typer.echo(f"{title}, {per_second:,.0f} lists a second:")
    typer.echo(f"{shards} shards; the fullest has {fullest * shards:.4f} times its even part of the ratings")
    replicas = _replicas(size, shards, fullest, per_second)
    for one in replicas:
        typer.echo(
            f"{one.process}: {one.shards * one.per_shard} replicas of {one.gb:,.1f} GB, "
            f"{one.total_gb:,.0f} GB"
        )
    cores = per_second * sum(_answer_seconds(size).values()) / _LOAD
    total_gb = sum(one.total_gb for one in replicas)
    typer.echo(f"together: {cores:.1f} cores, {_LOAD:.0%} of them used, and {total_gb:,.0f} GB")
    fill_seconds = _FILL_SECONDS + (_PRODUCT_SECONDS * size.movies if size.movies > LARGE_CATALOGUE else 0)
    typer.echo(
        f"training: driver {size.ratings * _RATING_BYTES_TRAINING / _GB:,.1f} GB, "
        f"each worker process {2 * (size.users + size.movies) * _FACTOR_BYTES / _GB:,.1f} GB of factors, "
        f"a fit of stage one {size.ratings * _FIT_SECONDS / 3_600:,.1f} core-hours, "
        f"lists for everybody {size.users * fill_seconds / 3_600:,.1f} core-hours"
    )


def _even_shards(size: Size, replica_gb: float) -> int:
    """Shards of which each would fit if all had the same."""
    movies_gb = _candidate_gb(size, 0.0)
    spare = replica_gb - movies_gb
    return math.ceil((_candidate_gb(size, 1.0) - movies_gb) / spare) if spare > 0 else MAX_USER_SHARDS


def _candidate_gb(size: Size, share: float) -> float:
    """Memory of a replica of candidate with a share of the ratings, while it reloads."""
    of_users = share * (size.ratings * _RATING_BYTES + size.users * _USER_BYTES)
    return _RELOADING * (of_users + size.movies * _MOVIE_BYTES_CANDIDATE) / _GB


def _fullest_share(n_users: int, shards: int) -> float:
    """The largest share of all ratings that the hash gives to one shard."""
    rng = np.random.default_rng(0)
    sums = np.zeros(shards)
    for start in range(0, n_users, _USERS_AT_ONCE):
        user_ids = np.arange(start + 1, min(start + _USERS_AT_ONCE, n_users) + 1)
        n_ratings = rng.lognormal(0, _DEVIATION, user_ids.size)
        sums += [n_ratings[rows].sum() for rows in rows_by_shard(user_ids, shards)]
    return float(sums.max() / sums.sum())


def _answer_seconds(size: Size) -> dict[str, float]:
    scanned = _SCAN_SECONDS * size.movies if size.movies > LARGE_CATALOGUE else 0.0
    return {**_ANSWER_SECONDS, "candidate": _ANSWER_SECONDS["candidate"] + scanned}


def _replicas(size: Size, shards: int, fullest: float, per_second: float) -> list[Replicas]:
    ranking_bytes = fullest * size.ratings * _RATING_BYTES + size.movies * _MOVIE_BYTES_RANKING
    gateway_bytes = (
        size.ratings * _RATING_BYTES_GATEWAY if shards == 1 else 0
    )  # else it holds nothing of users
    gb = {
        "gateway": _RELOADING * gateway_bytes / _GB,
        "candidate": _candidate_gb(size, fullest),
        "ranking": _RELOADING * ranking_bytes / _GB,
    }
    seconds = _answer_seconds(size)
    found = []
    for process, of_one in gb.items():
        of_users = 1 if process == "gateway" else shards
        busy = per_second / of_users * seconds[process] / _LOAD
        found.append(Replicas(process, of_users, max(_LEAST_REPLICAS, math.ceil(busy)), of_one))
    return found


if __name__ == "__main__":
    typer.run(main)
