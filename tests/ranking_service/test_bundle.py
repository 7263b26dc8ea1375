"""The ranking service on a trained bundle."""

from pathlib import Path

import numpy as np
import pytest

from ranking_service.ranking import Ranker
from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_ratings
from serving.bundle.store import BundleFolder, BundleStore
from serving.stages.ranking import RankingQuery


@pytest.fixture(scope="module")
def folder(bundle_root: Path) -> BundleFolder:
    store = BundleStore(bundle_root)
    return store.folder(store.pointer().bundle_id, "ranking")


@pytest.fixture(scope="module")
def ranker(bundle_root: Path) -> Ranker:
    store = BundleStore(bundle_root)
    return Ranker.load(store, store.pointer().bundle_id)


def queries(folder: BundleFolder, *, diversity: float = 0.0) -> list[RankingQuery]:
    generator = np.random.default_rng(0)
    movie_ids = read_movies(folder).ids.ids
    ratings = read_ratings(folder)
    rated = ratings.users.ids[ratings.counts() > 0]
    return [
        RankingQuery(
            user_id=int(user_id),
            movie_ids=generator.choice(movie_ids, size=size, replace=False),
            retrieval_scores=generator.normal(size=size).astype(np.float32),
            limit=20,
            explain_features=100,
            diversity=diversity,
        )
        for user_id, size in zip(rated[:10], (1, 2, 30, 50, 50, 50, 50, 50, 50, 50), strict=True)
    ]


@pytest.mark.parametrize("diversity", [0.0, 0.3])
def test_batch_equals_singles(ranker: Ranker, folder: BundleFolder, diversity: float) -> None:
    asked = queries(folder, diversity=diversity)
    for query, together in zip(asked, ranker.rank(asked).lists, strict=True):
        (alone,) = ranker.rank([query]).lists
        assert alone.movie_ids.tolist() == together.movie_ids.tolist()
        assert alone.scores.tobytes() == together.scores.tobytes()
        assert alone.explanations == together.explanations


def test_explanations_add_up(ranker: Ranker, folder: BundleFolder) -> None:
    for answer in ranker.rank(queries(folder)).lists:
        assert answer.movie_ids.size > 0
        assert np.all(np.diff(answer.scores) <= 0)
        for score, contributions in zip(answer.scores, answer.explanations, strict=True):
            total = ranker.base_value + sum(c.contribution for c in contributions)
            assert total == pytest.approx(score, abs=1e-9)
            sizes = [abs(c.contribution) for c in contributions]
            assert sizes == sorted(sizes, reverse=True)
