"""Whether the current bundle is what a job would make again."""

from pathlib import Path

import numpy as np

from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.factors import read_ratings
from serving.bundle.manifest import Manifest
from serving.bundle.ranker import RankerContent
from serving.bundle.signature import SigningKey
from serving.bundle.store import BundleError, BundleStore
from serving.features.movie import MovieFeatures
from serving.features.sets import feature_hash, groups_of_names
from training.data.movielens.cleaning import ratings_digest
from training.data.preparation import Prepared
from training.engine.local import LocalEngine
from training.features import movie
from training.models.recipe import RULES, Recipe
from training.models.recipe_record import recipe_record


def reusable(
    root: Path, prepared: Prepared, recipe: Recipe, key: SigningKey | None = None, *, user_shards: int = 1
) -> Manifest | None:
    """The manifest of the current bundle if it is of this data, recipe, shards and key; else None.

    What the bundle holds is compared, not the tag alone: users choose tags, and a tag of ours says nothing of
    titles and genres. A bundle that is missing or damaged is none.
    """
    store = BundleStore(root, trusted=None if key is None else key.public)
    try:
        manifest = store.manifest(store.pointer().bundle_id)
        store.verify(manifest.bundle_id)
        same = (
            manifest.user_shards == user_shards
            and _is_of(manifest, prepared, recipe)
            and _holds(store, manifest.bundle_id, prepared)
        )
    except BundleError:
        return None
    return manifest if same else None


def _is_of(manifest: Manifest, prepared: Prepared, recipe: Recipe) -> bool:
    asked = recipe_record(recipe)
    # Where something is to be chosen, the same data and recipe would choose the same.
    if recipe.choose_regularization:
        del asked["als_regularization"]
    if recipe.choose_features:
        del asked["feature_groups"]
    if recipe.choose_sources:
        for name in ("sources_als", "sources_transitions", "sources_popularity", "least_history"):
            del asked[name]
    return (
        manifest.rules == RULES
        and manifest.dataset_tag == prepared.dataset_tag
        and manifest.features.hash == _feature_hash(manifest, prepared)
        and asked.items() <= manifest.recipe.items()
    )


def _feature_hash(manifest: Manifest, prepared: Prepared) -> str | None:
    """That of the bundle's groups in this version; None where it does not have them."""
    try:
        return feature_hash(groups_of_names(manifest.features.groups), prepared.table.movies.genres)
    except ValueError:
        return None


def _holds(store: BundleStore, bundle_id: str, prepared: Prepared) -> bool:
    """Whether the bundle's ratings and catalogue are these, to the bit.

    Raises:
        BundleError: it is damaged.
    """
    candidate, gateway, ranking = (
        store.folder(bundle_id, name) for name in ("candidate", "gateway", "ranking")
    )
    table, ratings = prepared.table, prepared.clean.ratings
    movies = read_movies(candidate)
    movie_ids = movies.ids
    if not np.array_equal(movie_ids.ids, table.movies.ids.ids) or movies.genres != table.movies.genres:
        return False
    catalogue = CatalogueContent.read(gateway)
    # Of years, genres and the lengths of raw titles.
    values = movie.build(ratings, table, LocalEngine(1))["values"]
    served = RankerContent.read(ranking).tables.group(MovieFeatures)
    return (
        ratings_digest(read_ratings(candidate), movie_ids) == prepared.clean.digest
        and catalogue.titles == table.titles
        and np.array_equal(catalogue.tmdb_ids, table.tmdb_ids)
        and np.array_equal(served.values, values, equal_nan=True)
    )
