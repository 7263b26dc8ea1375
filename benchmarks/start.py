"""Start and memory of the candidate service with a large bundle: `python -m benchmarks.start --help`.

A real process, from its start until it serves, with an invented bundle: random factors and ratings, as many
as asked for. Of the other processes the bundle holds only their folders. Where users are split over shards,
the process serves the first.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Final

import numpy as np
import typer
from rich.table import Table

from benchmarks.servers import serving, settings_of
from candidate_service.retrieval import Retriever
from serving.bundle.catalogue import write_movies
from serving.bundle.factors import write_item_factors, write_ratings, write_user_factors
from serving.bundle.manifest import (
    SERVED_FOLDERS,
    FeatureRecord,
    Golden,
    GoldenCandidates,
    GoldenRanking,
    GoldenSimilar,
    Manifest,
    ShardRecord,
    bundle_id_of,
)
from serving.bundle.sources import SourcesRecord, write_sources
from serving.bundle.store import BundleStore, file_records
from serving.fold_in import AlsParameters, Confidence
from serving.ids import IdMap
from serving.limits import DEFAULT_CANDIDATES
from serving.movies import Movies
from serving.ratings import Ratings
from serving.shards import MAX_USER_SHARDS, UserShard, rows_by_shard
from serving.sources import ALS_ALONE, CandidateSources
from serving.stages.candidate import CandidateQuery
from training.cli.terminal import Terminal

_PARAMETERS: Final = AlsParameters(
    factors=128, iterations=15, regularization=30.0, alpha=5.0, confidence=Confidence.LIKES
)
_GOLDEN_MOVIES: Final = 300
_NOT_RANKED: Final = GoldenRanking(user_id=1, movie_ids=(), retrieval_scores=(), scores=())


def main(
    movies: Annotated[int, typer.Option(min=1)] = 17_700,
    users: Annotated[int, typer.Option(min=1)] = 200_000,
    ratings_per_user: Annotated[int, typer.Option(min=1)] = 100,
    starts: Annotated[int, typer.Option(min=1, help="How often to start.")] = 5,
    user_shards: Annotated[int, typer.Option(min=1, max=MAX_USER_SHARDS)] = 1,
) -> None:
    """Publishes the bundle into a temporary folder, starts the service some times, and prints how long."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_bundle(
            root, n_movies=movies, n_users=users, ratings_per_user=ratings_per_user, user_shards=user_shards
        )
        more = {"user_shard": str(UserShard(0, user_shards))} if user_shards > 1 else {}
        settings = settings_of("candidate", root, **more)
        seconds, mebibytes = [], []
        for _ in range(starts):
            began = perf_counter()
            with serving("candidate_service", root / "log", settings) as server:
                seconds.append(perf_counter() - began)
                mebibytes.append(server.memory_mib(peak=True))
    title = f"{movies:,} movies, {users:,} users, {users * ratings_per_user:,} ratings"
    table = Table(title=title if user_shards == 1 else f"{title}: one of {user_shards} shards")
    for heading in ("bundle MiB", "p50 s", "slowest s", "peak MiB"):
        table.add_column(heading, justify="right")
    figures = (size / 2**20, np.median(seconds), max(seconds), max(mebibytes))
    table.add_row(*(f"{figure:.2f}" for figure in figures))
    Terminal().print(table)


def write_bundle(
    root: Path, *, n_movies: int, n_users: int, ratings_per_user: int, user_shards: int = 1
) -> int:
    """Publishes an invented bundle, and points to it.

    Returns:
        Bytes that the candidate service reads, of the first shard if there are several.
    """
    rng = np.random.default_rng(0)
    movies = Movies(
        ids=IdMap(np.arange(1, n_movies + 1)),
        years=rng.integers(1930, 2020, n_movies, dtype=np.int16),
        genre_bits=rng.integers(1, 2**20, n_movies, dtype=np.uint64),
    )
    n_ratings = n_users * ratings_per_user
    first_rows = rng.integers(0, n_movies, (n_users, 1))
    rated = (first_rows + np.arange(ratings_per_user)) % n_movies
    ratings = Ratings(
        users=IdMap(np.arange(1, n_users + 1)),
        indptr=np.arange(0, n_ratings + 1, ratings_per_user),
        movie_rows=rated.ravel().astype(np.int32),
        values=(rng.integers(1, 11, n_ratings) / 2).astype(np.float32),
        times=np.sort(rng.integers(10**9, 2 * 10**9, n_ratings)),
    )
    item_factors, user_factors = (
        rng.normal(size=(n, _PARAMETERS.factors)).astype(np.float32) for n in (n_movies, n_users)
    )
    retriever = Retriever(
        bundle_id="",
        movies=movies,
        ratings=ratings,
        sources=CandidateSources(item_factors),
        user_factors=user_factors,
        parameters=_PARAMETERS,
        n_candidates=DEFAULT_CANDIDATES,
    )
    shards = rows_by_shard(ratings.users.ids, user_shards) if user_shards > 1 else []
    store = BundleStore(root)
    with store.staging() as staging:
        for name in SERVED_FOLDERS:
            (staging / name).mkdir()
        folder = staging / "candidate"
        write_movies(folder, movies)
        write_ratings(folder, ratings, shards)
        write_item_factors(folder, item_factors)
        write_user_factors(folder, user_factors, _PARAMETERS, shards)
        write_sources(folder, SourcesRecord(ALS_ALONE, least_history=0), None)
        files = file_records(staging)
        manifest = Manifest(
            bundle_id=bundle_id_of(files),
            files=files,
            dataset_tag="invented",
            features=FeatureRecord(groups=(), names=(), hash=""),
            n_candidates=DEFAULT_CANDIDATES,
            recipe={},
            metrics={},
            libraries={},
            golden=Golden(
                candidate=_golden(retriever, 1),
                ranking=_NOT_RANKED,
                similarity=GoldenSimilar(movie_id=1, movie_ids=(), scores=()),
            ),
            shards=tuple(
                ShardRecord(candidate=_golden(retriever, int(rows[0]) + 1), ranking=_NOT_RANKED)
                for rows in shards
            ),
        )
        store.publish(staging, manifest)
    store.point_to(manifest.bundle_id, published_at=0.0)
    read = manifest.files_for(UserShard(0, user_shards) if shards else None)
    return sum(record.size for record in read.values())


def _golden(retriever: Retriever, user_id: int) -> GoldenCandidates:
    (answer,) = retriever.retrieve([CandidateQuery(user_id=user_id, limit=_GOLDEN_MOVIES)])
    movie_ids, scores = tuple(answer.movie_ids.tolist()), tuple(answer.scores.tolist())
    return GoldenCandidates(user_id=user_id, movie_ids=movie_ids, scores=scores)


if __name__ == "__main__":
    typer.run(main)
