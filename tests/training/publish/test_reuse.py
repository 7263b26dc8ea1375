"""Which bundle `--reuse` keeps: one of the same recipe and, to the bit, of the same data."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from serving.bundle.signature import SigningKey
from serving.bundle.store import BundleStore
from serving.features.sets import FeatureSet
from serving.ids import IdMap
from tests.training.small import HERE, PROGRESS, RECIPE, build_of, table_of, tastes
from training.data.movielens.cleaning import CleaningCounts, CleanRatings, ratings_digest
from training.data.movielens.movies import MovieTable
from training.data.preparation import Prepared
from training.models.job_context import JobContext
from training.models.recipe import RULES, Recipe
from training.publish import reuse
from training.publish.publish import publish
from training.publish.reuse import reusable


def prepared(*, table: MovieTable | None = None, stars_of_first: float | None = None) -> Prepared:
    """The data of the bundle, but for what is told, under a tag that a user chose."""
    table, ratings = table or table_of(), tastes()
    if stars_of_first is not None:
        ratings.values[0] = stars_of_first
    digest = ratings_digest(ratings, table.movies.ids)
    clean = CleanRatings(ratings=ratings, counts=CleaningCounts(0, 0, 0, 0, 0, 0), digest=digest)
    return Prepared(table=table, clean=clean, dataset_tag="mine", source="", inputs="")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, data = tmp_path_factory.mktemp("bundles"), prepared()
    job = JobContext(data.table, RECIPE, PROGRESS, HERE)
    publish(root, build_of(data.clean.ratings, job, dataset_tag="mine"), PROGRESS)
    return root


def test_a_bundle_of_the_same_data_and_recipe_is_reused(root: Path) -> None:
    manifest = reusable(root, prepared(), RECIPE)
    assert manifest is not None
    assert manifest.bundle_id == BundleStore(root).pointer().bundle_id


@pytest.mark.parametrize(
    "recipe",
    [
        replace(RECIPE, seed=1),
        replace(RECIPE, threads=2),
        replace(RECIPE, als=replace(RECIPE.als, factors=9)),
        replace(RECIPE, feature_groups=FeatureSet.REFERENCE.groups),
    ],
    ids=["seed", "threads", "als", "features"],
)
def test_one_of_another_recipe_is_not(root: Path, recipe: Recipe) -> None:
    assert reusable(root, prepared(), recipe) is None


def test_one_of_other_rules_is_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "RULES", RULES + 1)
    assert reusable(root, prepared(), RECIPE) is None


def test_one_of_equal_contents_is_that_of_the_latest_job(tmp_path: Path) -> None:
    """The manifest is not part of what an id stands for: the older one would never be reused."""
    data = prepared()
    job = JobContext(data.table, RECIPE, PROGRESS, HERE)
    ids = {
        publish(tmp_path, build_of(data.clean.ratings, job, dataset_tag=tag), PROGRESS, settle_seconds=0)
        for tag in ("theirs", "mine")
    }
    assert len(ids) == 1
    assert reusable(tmp_path, data, RECIPE) is not None


def test_a_chosen_regularization_is_no_other_recipe(root: Path, tmp_path: Path) -> None:
    """The option says that it is to be chosen, the bundle what was chosen; a given one must be the same."""
    open_recipe = replace(RECIPE, choose_regularization=True)
    data = prepared()
    chosen = replace(open_recipe, als=replace(RECIPE.als, regularization=4.0))
    job = JobContext(data.table, chosen, PROGRESS, HERE)
    publish(tmp_path, build_of(data.clean.ratings, job, dataset_tag="mine"), PROGRESS)
    assert reusable(tmp_path, data, open_recipe) is not None
    assert reusable(tmp_path, data, replace(chosen, choose_regularization=False)) is None
    assert reusable(root, data, open_recipe) is None


def test_one_of_another_tag_other_ratings_or_unsigned_is_not(root: Path) -> None:
    assert reusable(root, replace(prepared(), dataset_tag="other"), RECIPE) is None
    assert reusable(root, prepared(stars_of_first=1.5), RECIPE) is None  # under the same tag
    assert reusable(root, prepared(), RECIPE, SigningKey(bytes(32))) is None


Change: TypeAlias = Callable[[MovieTable], MovieTable]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: replace(table, titles=("Another film", *table.titles[1:])),
        lambda table: replace(table, title_lengths=table.title_lengths + np.int32(1)),
        lambda table: replace(table, tmdb_ids=table.tmdb_ids + np.int32(1)),
        lambda table: replace(table, movies=replace(table.movies, years=table.movies.years + np.int16(1))),
        lambda table: replace(table, movies=replace(table.movies, genre_bits=table.movies.genre_bits[::-1])),
        lambda table: replace(table, movies=replace(table.movies, ids=IdMap(table.movies.ids.ids + 1))),
        lambda table: table_of(len(table.titles) + 1),
    ],
    ids=["title", "length of a raw title", "tmdb_id", "year", "genres", "movie_id", "an unrated movie more"],
)
def test_one_of_another_catalogue_under_the_same_tag_is_not(root: Path, change: Change) -> None:
    assert reusable(root, prepared(table=change(table_of())), RECIPE) is None


def test_none_and_a_damaged_one_are_not(root: Path, tmp_path: Path) -> None:
    assert reusable(tmp_path, prepared(), RECIPE) is None
    damaged = BundleStore(Path(shutil.copytree(root, tmp_path / "bundles")))
    (damaged.path(damaged.pointer().bundle_id) / "candidate" / "ratings.npz").unlink()
    assert reusable(damaged.root, prepared(), RECIPE) is None
