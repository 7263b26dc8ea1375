"""A browser before the whole system, whose catalogue has titles that would be code if they were not text."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.factors import read_ratings, write_ratings
from serving.bundle.store import BundleStore
from serving.bundle.titles import index_titles, write_titles
from serving.ids import Rows
from serving.ratings import Ratings
from tests.console.browser import Chromium, chromium
from tests.e2e.system import System, running_system
from tests.serving.republished import republished

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "[/] {{7*7}} ${alert(1)} \" ' `",
    "\u202egnp.exe\u202c",
    "A title of a great many words that goes on and on, and does not end where a page would like it to end",
)
"""Titles of the most popular movies."""


@pytest.fixture(scope="module")
def hostile_root(bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tests with other titles; before it, one whose lists lack every seventh movie."""
    root = tmp_path_factory.mktemp("hostile")
    trained = BundleStore(bundle_root)
    manifest = trained.manifest(trained.pointer().bundle_id)
    folder = trained.folder(manifest.bundle_id, "gateway")
    content, years = CatalogueContent.read(folder), read_movies(folder).years
    titles = list(content.titles)
    for row, title in zip(content.popularity_order.tolist(), HOSTILE, strict=False):
        titles[row] = title

    def seen(staging: Path) -> None:
        everybody = np.arange(0, len(titles), 7, dtype=np.int32)
        user = manifest.golden.candidate.user_id
        write_ratings(staging / "gateway", _joined_by(read_ratings(folder), user, everybody))

    def titled(staging: Path) -> None:
        (staging / "gateway" / "catalogue.json").write_text(json.dumps({"titles": titles}))
        write_titles(staging / "gateway", index_titles(titles, years, content.popularity_order))

    store = BundleStore(root)
    for alter in (seen, titled):
        altered = republished(trained, manifest.bundle_id, store, alter)
        store.point_to(altered, published_at=0)
    return root


def _joined_by(ratings: Ratings, user_id: int, movie_rows: Rows) -> Ratings:
    """The ratings, as if a user had also rated some movies, before all others and with half a star."""
    user = ratings.users.row(user_id)
    own = slice(ratings.indptr[user], ratings.indptr[user + 1])
    more = np.setdiff1d(movie_rows, ratings.movie_rows[own]).astype(np.int32)
    indptr = ratings.indptr.copy()
    indptr[user + 1 :] += more.size
    return replace(
        ratings,
        indptr=indptr,
        movie_rows=np.insert(ratings.movie_rows, own.start, more),
        values=np.insert(ratings.values, own.start, np.full(more.size, 0.5, np.float32)),
        times=np.insert(ratings.times, own.start, np.zeros(more.size, np.int64)),
    )


@pytest.fixture(scope="module")
def system(hostile_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(hostile_root, tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def popular_ids(hostile_root: Path) -> list[int]:
    """The most popular movies first: those with the hostile titles."""
    store = BundleStore(hostile_root)
    folder = store.folder(store.pointer().bundle_id, "gateway")
    order = CatalogueContent.read(folder).popularity_order
    ids: list[int] = np.asarray(read_movies(folder).ids.ids)[order].tolist()
    return ids
