"""What training hands over: the same bundle for the same inputs, byte for byte."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from serving.bundle.manifest import SERVED_FOLDERS, Manifest
from serving.bundle.store import BundleError, BundleStore
from serving.bundle.trial import try_loading
from serving.features.sets import FeatureSet, feature_hash, feature_names, names_of_groups
from serving.movies import MOVIELENS_GENRES, Movies
from tests.conftest import Trained
from tests.serving.republished import republished
from tests.training.small import JOB, N_USERS, PROGRESS, RECIPE, build_of, ratings_of, tastes
from training.jobs.train import SERVER_LOADERS
from training.models import first_stage
from training.models.recipe import Loss, Recipe
from training.models.recipe_record import recipe_of, recipe_record
from training.publish.publish import Build, publish, size_of

METRICS = {"two_stage": {"ndcg_at_10": 0.25}}


def build(recipe: Recipe = RECIPE) -> Build:
    """Trained anew each time."""
    job = replace(JOB, recipe=recipe)
    return build_of(
        job=job, loss=Loss.YETI_RANK, iterations=20, dataset_tag="tastes-00000000", metrics=METRICS
    )


def served(store: BundleStore, bundle_id: str) -> dict[str, bytes]:
    bundle = store.path(bundle_id)
    return {path: (bundle / path).read_bytes() for path in store.manifest(bundle_id).files}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    """With one bundle, pointed to."""
    root = tmp_path_factory.mktemp("published")
    publish(root, build(), PROGRESS)
    return BundleStore(root)


@pytest.fixture(scope="module")
def bundle_id(store: BundleStore) -> str:
    return store.pointer().bundle_id


@pytest.fixture(scope="module")
def manifest(store: BundleStore, bundle_id: str) -> Manifest:
    return store.manifest(bundle_id)


def test_a_bundle_that_servers_refuse_is_not_pointed_to(store: BundleStore, tmp_path: Path) -> None:
    def refuse(store: BundleStore, bundle_id: str) -> None:
        store.verify(bundle_id)
        raise BundleError(f"bundle {bundle_id}: no")

    with pytest.raises(BundleError, match=r": no$"):
        publish(tmp_path, build(), PROGRESS, check=refuse)
    with pytest.raises(BundleError, match="no bundle is published"):
        BundleStore(tmp_path).pointer()


def test_the_gateways_part_is_tried_too(store: BundleStore, bundle_id: str, tmp_path: Path) -> None:
    """Before a training moves the pointer; that whole bundles pass, every training shows."""

    def rename(staging: Path) -> None:
        (staging / "gateway" / "catalogue.json").write_text('{"titles": ["one"]}')

    other = BundleStore(tmp_path)
    renamed = republished(store, bundle_id, other, rename)
    with pytest.raises(BundleError):
        try_loading(SERVER_LOADERS, other, renamed)


def test_the_same_inputs_give_the_same_bundle(store: BundleStore, bundle_id: str, tmp_path: Path) -> None:
    assert publish(tmp_path, build(), PROGRESS) == bundle_id
    again = served(BundleStore(tmp_path), bundle_id)
    first = served(store, bundle_id)
    assert again.keys() == first.keys()
    assert "ranking/ranker.cbm" in again
    for path, content in first.items():
        assert again[path] == content, path


def test_publishing_again_changes_nothing(store: BundleStore, bundle_id: str) -> None:
    def state() -> list[tuple[str, int]]:
        return sorted(
            (str(path), path.lstat().st_mtime_ns) for path in store.root.rglob("*") if path.is_file()
        )

    before = state()
    assert publish(store.root, build(), PROGRESS) == bundle_id
    assert state() == before


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, seed=1),
        replace(RECIPE, als=replace(RECIPE.als, alpha=6.0)),
        replace(RECIPE, ranker=replace(RECIPE.ranker, learning_rate=0.2)),
        replace(RECIPE, feature_groups=FeatureSet.REFERENCE.groups),
        None,
    ],
    ids=["seed", "als", "ranker", "features", "catalogue"],
)
def test_another_recipe_or_catalogue_gives_another_bundle(
    bundle_id: str, tmp_path: Path, other: Recipe | None
) -> None:
    one = build(other or RECIPE)
    if other is None:
        movies, years = one.table.movies, one.table.movies.years.copy()
        years[0] = 1999
        one = replace(one, table=replace(one.table, movies=Movies(movies.ids, years, movies.genre_bits)))
    assert publish(tmp_path, one, PROGRESS) != bundle_id


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("movies.npz", {"candidate", "gateway", "ranking", "similarity"}),
        ("ratings.npz", {"candidate", "gateway", "ranking"}),
        ("item_factors.npz", {"candidate", "ranking", "similarity"}),
    ],
)
def test_what_processes_share_is_on_the_disk_once(
    store: BundleStore, bundle_id: str, name: str, folders: set[str]
) -> None:
    paths = list(store.path(bundle_id).glob(f"*/{name}"))
    assert {path.parent.name for path in paths} == folders
    assert len({path.stat().st_ino for path in paths}) == 1
    assert paths[0].stat().st_nlink == len(folders)


def test_the_manifest_says_what_the_bundle_is(manifest: Manifest) -> None:
    assert {path.partition("/")[0] for path in manifest.files} == set(SERVED_FOLDERS)
    assert manifest.dataset_tag == "tastes-00000000"
    assert (manifest.features.names, manifest.features.hash) == (
        feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES),
        feature_hash(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES),
    )
    assert manifest.recipe == {
        "als_factors": 8,
        "als_iterations": 5,
        "als_regularization": 1.0,
        "als_alpha": 5.0,
        "als_confidence": "likes",
        "ranker_iterations": 20,
        "ranker_learning_rate": 0.1,
        "ranker_depth": 3,
        "ranker_negatives": 10,
        "ranker_max_users": 10_000,
        "ranker_relevance_threshold": 4.0,
        "ranker_only_loss": None,
        "ranker_early_stopping_rounds": None,
        "ranker_selection_seconds": 30.0,
        "choose_regularization": False,
        "sources_als": 1.0,
        "sources_transitions": 0.0,
        "sources_popularity": 0.0,
        "choose_sources": False,
        "least_history": 0,
        "n_candidates": 300,
        "choose_features": False,
        "feature_groups": " ".join(names_of_groups(FeatureSet.EXTENDED.groups)),
        "protocol": "user",
        "seed": 0,
        "threads": 1,
        "ranker_loss": "YetiRank",
        "ranker_trees": 20,
    }
    assert manifest.n_candidates == 300
    assert recipe_record(RECIPE).items() <= manifest.recipe.items()
    assert manifest.metrics == METRICS
    assert {"catboost", "implicit", "numpy", "scipy"} <= manifest.libraries.keys()


def test_golden_values_are_answers_of_the_models(manifest: Manifest) -> None:
    one = build()
    ids, stage, golden = one.table.movies.ids, one.two_stage.stage, manifest.golden
    user = stage.ratings.users.row(golden.candidate.user_id)
    (found,) = stage.candidates(np.array([user], dtype=np.int32))
    assert golden.candidate.movie_ids == golden.ranking.movie_ids == tuple(ids.ids[found.movie_rows].tolist())
    assert golden.candidate.scores == golden.ranking.retrieval_scores == tuple(found.scores.tolist())
    (best,) = one.two_stage.recommend(np.array([user], dtype=np.int32))
    by_score = sorted(
        zip(golden.ranking.scores, golden.ranking.movie_ids, strict=True), key=lambda p: (-p[0], p[1])
    )
    assert [movie_id for _, movie_id in by_score] == ids.ids[best].tolist()
    assert len(golden.similarity.movie_ids) == 20
    assert golden.similarity.movie_id not in golden.similarity.movie_ids


def test_the_first_users_may_have_seen_everything(tmp_path: Path) -> None:
    """More of them than leaf tables were once checked on."""
    ratings = tastes()
    everything = [(movie, 4.5 if movie % 2 else 2.0, movie) for movie in range(58)]
    others = [ratings.of(row) for row in range(N_USERS)]
    seen = ratings_of(
        *[everything] * 25,
        *[
            list(zip(one.movie_rows.tolist(), one.values.tolist(), one.times.tolist(), strict=True))
            for one in others
        ],
    )
    one = build_of(seen, dataset_tag="seen", metrics=METRICS)
    manifest = BundleStore(tmp_path).manifest(publish(tmp_path, one, PROGRESS))
    assert manifest.golden.candidate.user_id == 26
    assert manifest.golden.candidate.movie_ids


def test_only_a_large_catalogue_is_told_what_a_scan_by_norm_reads(
    store: BundleStore, bundle_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "scan_share" not in (store.path(bundle_id) / "manifest.json").read_text()
    monkeypatch.setattr(first_stage, "LARGE_CATALOGUE", 60)
    one = build(replace(RECIPE, n_candidates=10))
    manifest = BundleStore(tmp_path).manifest(publish(tmp_path, one, PROGRESS))
    stage = one.two_stage.stage
    norms = np.linalg.norm(stage.als.item_factors, axis=1)
    users = stage.served_users()
    least = [found.scores[-1] for found in stage.candidates(users)]
    least_norms = least / np.linalg.norm(stage.als.user_factors[users], axis=1)
    assert manifest.scan_share == pytest.approx((norms >= least_norms[:, None]).mean(), abs=1e-3)


def test_what_varies_stands_outside_of_the_manifest(store: BundleStore, bundle_id: str) -> None:
    bundle = store.path(bundle_id)
    record = json.loads((bundle / "build.json").read_text())
    assert {"host", "finished_at"} <= record.keys()
    titles = [step["title"] for step in record["steps"]]
    assert titles[-1] == "Tables for analysts"
    assert all(step["seconds"] >= 0 and step["peak_bytes"] > 10**7 for step in record["steps"])
    text = (bundle / "manifest.json").read_text()
    assert "build.json" not in text
    assert "finished_at" not in text


def test_what_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = build()
    needed = size_of(one)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(OSError, match=f"the bundle needs {needed} bytes, {needed - 1} are free"):
        publish(tmp_path, one, PROGRESS)
    assert not list(tmp_path.iterdir())


def test_the_size_of_a_bundle_is_known_before(trained: Trained) -> None:
    store = BundleStore(trained.root)
    recipe, _ = recipe_of(store.manifest(trained.bundle_id).recipe)
    one = Build(two_stage=trained.two_stage, table=trained.table, recipe=recipe, dataset_tag="", metrics={})
    files = {path.stat().st_ino: path.stat().st_size for path in store.path(trained.bundle_id).rglob("*.*")}
    assert 0.5 < size_of(one) / sum(files.values()) <= 1
