"""Writing a trained recommender down as a bundle, and serving it from then on."""

import filecmp
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from serving.bundle import SETTLE_SECONDS
from serving.bundle.catalogue import MOVIES_FILE, POPULARITY_FILE, CatalogueContent, write_movies
from serving.bundle.factors import (
    ITEM_FACTORS_FILE,
    RATINGS,
    write_item_factors,
    write_ratings,
    write_user_factors,
)
from serving.bundle.lists import ListsContent
from serving.bundle.manifest import (
    Golden,
    GoldenCandidates,
    GoldenRanking,
    GoldenSimilar,
    Manifest,
    QualityRecord,
    ShardRecord,
    bundle_id_of,
)
from serving.bundle.neighbours import NeighboursContent
from serving.bundle.ranker import RankerContent, group_file
from serving.bundle.signature import SigningKey
from serving.bundle.sources import TRANSITIONS_FILE, SourcesRecord, write_sources
from serving.bundle.store import BundleStore, file_records
from serving.bundle.titles import index_titles, write_titles
from serving.features.transitions import TransitionFeatures
from serving.ids import Rows
from serving.shards import rows_by_shard
from serving.sources import FusedCandidates, Source
from training.checkpoints import LIBRARIES
from training.data.movielens.movies import MovieTable
from training.data.popularity import MovieStatistics, popularity
from training.data.trending import trending
from training.errors import TrainingError
from training.models.recipe import RULES, Recipe
from training.models.recipe_record import recipe_record
from training.models.similarity import NEIGHBOURS, build_index
from training.models.taste import taste_movies
from training.models.two_stage import TwoStage
from training.progress import Progress
from training.publish.exports import write_exports
from training.publish.gate import Evaluation
from training.publish.leaf_tables import build_leaf_tables
from training.release.roll_out import roll_out

_GOLDEN_MOVIES: Final = 20
_SHARED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ranking": (MOVIES_FILE, ITEM_FACTORS_FILE),
        "similarity": (MOVIES_FILE, ITEM_FACTORS_FILE),
        "gateway": (MOVIES_FILE,),
    }
)
"""By folder, the files that it shares with `candidate`."""
_WITH_RATINGS: Final = ("ranking", "gateway")
"""Folders that share the ratings as well."""


class UserShardsError(TrainingError):
    """The users cannot be split over so many shards."""


@dataclass(frozen=True)
class Build:
    """What a bundle is made from, and what was measured before."""

    two_stage: TwoStage
    """Trained on all ratings by `recipe`."""
    table: MovieTable
    recipe: Recipe
    dataset_tag: str
    metrics: Mapping[str, Mapping[str, float]]
    """By model, then metric: what the recipe reached on the test part."""
    quality: QualityRecord | None = None
    """How sure they are."""
    report: str | None = None
    """The page for people, as HTML; laid into `reports/`, which the manifest does not know."""
    evaluation: Evaluation | None = None
    """What it reached for each user: what the next one will be compared with."""
    user_shards: int = 1
    """Pieces to write what is known of users in."""


def publish(
    root: Path,
    build: Build,
    progress: Progress,
    *,
    settle_seconds: float = SETTLE_SECONDS,
    key: SigningKey | None = None,
    check: Callable[[BundleStore, str], None] = lambda _store, _bundle_id: None,
) -> str:
    """Publishes a bundle and points to it, once servers have taken the one before.

    What the steps of the job took goes into its `build.json`. `check` is asked with the published bundle
    before the pointer moves to it, and raises to prevent that.

    Returns:
        The bundle_id; equal contents have equal ids, and publishing them again changes nothing.

    Raises:
        OSError: there is too little space, found before or after the fact.
        LeafTablesError: the ranker is none that leaf tables can explain.
        UserShardsError: a shard has nobody who can be recommended anything.
        BusyError: another move of the pointer does not come to an end.
    """

    def wait(seconds: float) -> None:
        with progress.step(f"Waiting {seconds:.0f} s: servers are still taking the bundle before this one"):
            time.sleep(seconds)

    store = BundleStore(root, trusted=None if key is None else key.public)
    store.require_space(size_of(build))
    with store.staging() as staging:
        ranker, neighbours = _write_contents(staging, build, progress)
        _link_shared(staging, build)
        with progress.step("Tables for analysts"):
            _write_analysts_tables(staging / "exports", build, neighbours)
        files = file_records(staging)
        manifest = Manifest(
            bundle_id=bundle_id_of(files),
            files=files,
            dataset_tag=build.dataset_tag,
            features=ranker.record,
            n_candidates=build.recipe.n_candidates,
            recipe=recipe_record(build.recipe, build.two_stage.choice),
            metrics=build.metrics,
            quality=build.quality,
            libraries={name: version(name) for name in LIBRARIES},
            rules=RULES,
            golden=_golden(build, ranker, neighbours),
            shards=_shard_records(build, ranker),
            scan_share=build.two_stage.stage.scan_share(),
        )
        (staging / "build.json").write_bytes(
            orjson.dumps(
                {
                    "host": os.uname().nodename,
                    "finished_at": time.time(),
                    "steps": [asdict(step) for step in progress.steps],
                }
            )
        )
        # Beside what is served and outside of its hash: the same model is the same bundle, however judged.
        (staging / "reports").mkdir()
        if build.report is not None:
            (staging / "reports" / "report.html").write_text(build.report, encoding="utf-8")
        if build.evaluation is not None:
            build.evaluation.write(staging / "reports")
        store.publish(staging, manifest, key)
    check(store, manifest.bundle_id)
    roll_out(store, manifest.bundle_id, settle_seconds=settle_seconds, wait=wait)
    return manifest.bundle_id


def size_of(build: Build) -> int:
    """Bytes that its bundle will take at the least: the arrays, without model, texts and report."""
    stage, n_movies = build.two_stage.stage, len(build.table.movies.ids)
    ratings = stage.ratings
    arrays: tuple[npt.NDArray[Any], ...] = (
        *(ratings.users.ids, ratings.indptr, ratings.movie_rows, ratings.values, ratings.times),
        *(stage.als.item_factors, stage.als.user_factors),
        *(array for group in stage.tables.groups for array in group.arrays.values()),
    )
    neighbours = n_movies * NEIGHBOURS * (np.dtype(np.int32).itemsize + np.dtype(np.float32).itemsize)
    return sum(array.nbytes for array in arrays) + neighbours


def _write_contents(
    staging: Path, build: Build, progress: Progress
) -> tuple[RankerContent, NeighboursContent]:
    """Writes each file that servers read into the folder of one of them."""
    stage, movies = build.two_stage.stage, build.table.movies
    statistics = MovieStatistics.of(stage.ratings, len(movies.ids))
    popular = popularity(statistics)
    candidate, gateway = staging / "candidate", staging / "gateway"
    write_movies(candidate, movies)
    shards = rows_by_shard(stage.ratings.users.ids, build.user_shards) if build.user_shards > 1 else []
    write_ratings(candidate, stage.ratings, shards)
    write_item_factors(candidate, stage.als.item_factors)
    write_user_factors(candidate, stage.als.user_factors, stage.als.parameters, shards)
    record = SourcesRecord(stage.sources.weights, build.recipe.least_history)
    write_sources(candidate, record, stage.sources.transitions)
    with progress.step("Leaf tables, checked against CatBoost's SHAP values"):
        model, sample = build.two_stage.ranker, stage.sample_features()
        ranker = RankerContent(model, stage.tables, build_leaf_tables(model, sample))
    ranker.write(staging / "ranking")
    with progress.step("Similarity index", len(movies.ids)) as advance:
        neighbours = build_index(
            stage.als.item_factors, movies, popular, advance, threads=build.recipe.threads
        )
    neighbours.write(staging / "similarity")
    catalogue = CatalogueContent(
        titles=build.table.titles,
        tmdb_ids=build.table.tmdb_ids,
        rating_counts=statistics.counts.astype(np.int32),
        rating_means=statistics.means,
        popularity=popular,
    )
    catalogue.write(gateway)
    lists = ListsContent(
        trending=trending(stage.ratings, len(movies.ids)),
        taste_rows=taste_movies(stage.als.item_factors, popular, statistics.counts),
    )
    lists.write(gateway)
    with progress.step("Index of titles"):
        titles = index_titles(catalogue.titles, movies.years, catalogue.popularity_order)
    write_titles(gateway, titles)
    return ranker, neighbours


def _link_shared(staging: Path, build: Build) -> None:
    """Makes files that several processes read hard links to one another."""
    candidate = staging / "candidate"
    for folder, names in _SHARED.items():
        for name in names:
            os.link(candidate / name, staging / folder / name)
    for path in sorted(candidate.glob(f"{RATINGS}*.npz")):  # one, or one for each shard of users
        for folder in _WITH_RATINGS:
            os.link(path, staging / folder / path.name)
    _link_if_equal(candidate / TRANSITIONS_FILE, staging / "ranking" / group_file(TransitionFeatures))
    if Source.POPULARITY in build.two_stage.stage.sources.weights.used:
        os.link(staging / "gateway" / POPULARITY_FILE, candidate / POPULARITY_FILE)


def _write_analysts_tables(folder: Path, build: Build, neighbours: NeighboursContent) -> None:
    ratings = build.two_stage.stage.ratings
    summary = {
        "dataset_tag": build.dataset_tag,
        "ratings": len(ratings),
        "users": len(ratings.users),
        "movies": len(build.table.movies.ids),
        "groups": build.two_stage.groups,
        "judged_users": 0 if build.evaluation is None else build.evaluation.user_ids.size,
        "recipe": recipe_record(build.recipe, build.two_stage.choice),
        "metrics": build.metrics,
    }
    write_exports(folder, build.two_stage, build.table, neighbours, summary)


def _link_if_equal(kept: Path, other: Path) -> None:
    """Makes two files one where both are there and hold the same bytes."""
    if kept.is_file() and other.is_file() and filecmp.cmp(kept, other, shallow=False):
        other.unlink()
        os.link(kept, other)


def _golden(build: Build, ranker: RankerContent, neighbours: NeighboursContent) -> Golden:
    """Answers of the first user with candidates, and of the movie with the most ratings."""
    stage, ids = build.two_stage.stage, build.table.movies.ids.ids
    users = _users_with_candidates(build)
    candidate, of_ranker = _golden_of_user(build, ranker, int(users[0]), next(stage.candidates(users)))
    movie = int(np.bincount(stage.ratings.movie_rows).argmax())
    nearest = neighbours.movie_rows[movie][:_GOLDEN_MOVIES]
    nearest = nearest[nearest >= 0]
    return Golden(
        candidate=candidate,
        ranking=of_ranker,
        similarity=GoldenSimilar(
            movie_id=int(ids[movie]),
            movie_ids=tuple(ids[nearest].tolist()),
            scores=tuple(neighbours.scores[movie][: nearest.size].tolist()),
        ),
    )


def _users_with_candidates(build: Build) -> Rows:
    """Those whom the models serve, ascending."""
    stage = build.two_stage.stage
    users = stage.served_users()
    return users[stage.ratings.counts()[users] >= build.recipe.least_history]


def _golden_of_user(
    build: Build, ranker: RankerContent, user: int, found: FusedCandidates
) -> tuple[GoldenCandidates, GoldenRanking]:
    """What retrieval and ranking answer to a user with these candidates."""
    stage = build.two_stage.stage
    user_id = int(stage.ratings.users.ids[user])
    movie_ids = tuple(build.table.movies.ids.ids[found.movie_rows].tolist())
    scores = tuple(found.scores.tolist())
    return GoldenCandidates(user_id=user_id, movie_ids=movie_ids, scores=scores), GoldenRanking(
        user_id=user_id,
        movie_ids=movie_ids,
        retrieval_scores=scores,
        source_ranks={source: tuple(ranks.tolist()) for source, ranks in found.source_ranks.items()},
        scores=tuple(ranker.predict(stage.features([user], [found])).tolist()),
    )


def _shard_records(build: Build, ranker: RankerContent) -> tuple[ShardRecord, ...]:
    """Answers of the first user of each shard: fewer movies than of all, as there may be a hundred shards.

    Raises:
        UserShardsError: a shard has nobody with candidates.
    """
    if build.user_shards == 1:
        return ()
    stage, users = build.two_stage.stage, _users_with_candidates(build)
    records = []
    for index, places in enumerate(rows_by_shard(stage.ratings.users.ids[users], build.user_shards)):
        of_shard = users[places[:1]]
        if not of_shard.size:
            raise UserShardsError(
                f"--user-shards {build.user_shards}: shard {index} has nobody who can be recommended anything"
            )
        found = _first(next(stage.candidates(of_shard)), _GOLDEN_MOVIES)
        candidate, of_ranker = _golden_of_user(build, ranker, int(of_shard[0]), found)
        records.append(ShardRecord(candidate=candidate, ranking=of_ranker))
    return tuple(records)


def _first(found: FusedCandidates, limit: int) -> FusedCandidates:
    """The best of these candidates: what retrieval answers to a query with this limit."""
    return FusedCandidates(
        found.movie_rows[:limit],
        found.scores[:limit],
        found.fused_scores[:limit],
        {source: ranks[:limit] for source, ranks in found.source_ranks.items()},
    )
