"""A browser before the whole system, whose catalogue has titles that would be code if they were not text."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.manifest import bundle_id_of
from serving.bundle.store import BundleStore, file_records
from serving.bundle.titles import index_titles, write_titles
from tests.console.browser import Chromium, chromium
from tests.e2e.system import System, running_system

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
    """The bundle of the tests with other titles."""
    root = tmp_path_factory.mktemp("hostile")
    before, after = BundleStore(bundle_root), BundleStore(root)
    bundle_id = before.pointer().bundle_id
    folder = before.folder(bundle_id, "gateway")
    content, years = CatalogueContent.read(folder), read_movies(folder).years
    titles = list(content.titles)
    for row, title in zip(content.popularity_order.tolist(), HOSTILE, strict=False):
        titles[row] = title
    with after.staging() as staging:
        shutil.copytree(before.path(bundle_id), staging, dirs_exist_ok=True)
        (staging / "manifest.json").unlink()
        (staging / "gateway" / "catalogue.json").write_text(json.dumps({"titles": titles}))
        write_titles(staging / "gateway", index_titles(titles, years, content.popularity_order))
        files = file_records(staging)
        changes: dict[str, Any] = {"files": files, "bundle_id": bundle_id_of(files)}
        manifest = before.manifest(bundle_id).model_copy(update=changes)
        after.publish(staging, manifest)
    after.point_to(manifest.bundle_id, published_at=0)
    return root


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
