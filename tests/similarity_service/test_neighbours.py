"""Neighbours on arrays that can be checked by eye, and on a trained bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.bundle.catalogue import read_movies
from serving.bundle.manifest import GoldenSimilar
from serving.bundle.neighbours import NeighboursContent
from serving.bundle.store import BundleError, BundleStore
from serving.errors import NotFoundError, Reason
from serving.filters import MovieFilter
from serving.stages.similarity import SimilarityMethod, SimilarQuery
from similarity_service.neighbours import SimilarityIndex
from tests.similarity_service.small import ITEM_FACTORS, MOVIES, NEIGHBOURS, index


def test_stored_neighbours_come_first() -> None:
    planted = NeighboursContent(NEIGHBOURS.movie_rows, NEIGHBOURS.scores + np.float32(0.001))
    model = SimilarityIndex(bundle_id="b", movies=MOVIES, item_factors=ITEM_FACTORS, neighbours=planted)
    answer = model.similar(SimilarQuery(10, limit=2))
    assert answer.movie_ids.tolist() == [20, 30]
    assert answer.scores.tolist() == planted.scores[0].tolist()
    assert answer.method is SimilarityMethod.ALS_COSINE


def test_more_than_stored_are_computed() -> None:
    answer = index().similar(SimilarQuery(10, limit=10))
    assert answer.movie_ids.tolist() == [20, 30, 50]  # neither itself nor cold movies
    np.testing.assert_allclose(answer.scores, [1, 0.6, 0], atol=1e-6)
    assert answer.scores.dtype == np.float32


def test_filter_and_exclusions_apply_before_the_limit() -> None:
    war = SimilarQuery(10, limit=2, movie_filter=MovieFilter(genres=("War",)))
    assert index().similar(war).movie_ids.tolist() == [30, 50]
    excluding = SimilarQuery(10, limit=2, exclude_movie_ids=np.array([20, 99]))
    assert index().similar(excluding).movie_ids.tolist() == [30, 50]
    assert index().similar(replace(excluding, limit=1)).movie_ids.tolist() == [30]


def test_negative_cosines_are_answers() -> None:
    answer = index().similar(SimilarQuery(30, limit=9))
    assert answer.movie_ids.tolist() == [10, 20, 50]
    np.testing.assert_allclose(answer.scores, [0.6, 0.6, -0.8], atol=1e-6)


def test_cold_movie_is_compared_by_genres() -> None:
    answer = index().similar(SimilarQuery(40, limit=2))
    assert answer.movie_ids.tolist() == [10, 20]
    assert answer.method is SimilarityMethod.GENRE_JACCARD
    more = index().similar(SimilarQuery(40, limit=9))
    assert more.movie_ids.tolist() == [10, 20, 30, 50]  # 60 shares nothing
    assert more.scores.tolist() == [0.5] * 4


def test_cold_movie_without_genres_has_no_neighbours() -> None:
    answer = index().similar(SimilarQuery(60, limit=5))
    assert answer.movie_ids.size == answer.scores.size == 0
    assert answer.method is SimilarityMethod.GENRE_JACCARD


def test_a_row_with_room_left_over_is_complete() -> None:
    rows, scores = NEIGHBOURS.movie_rows.copy(), NEIGHBOURS.scores.copy()
    rows[0], scores[0] = [4, -1], [0.5, 0]
    model = SimilarityIndex(
        bundle_id="b", movies=MOVIES, item_factors=ITEM_FACTORS, neighbours=NeighboursContent(rows, scores)
    )
    assert model.similar(SimilarQuery(10, limit=5)).movie_ids.tolist() == [50]


@pytest.mark.parametrize("movie_id", [1, 99, 2**31 - 1])
def test_unknown_movie(movie_id: int) -> None:
    with pytest.raises(NotFoundError) as caught:
        index().similar(SimilarQuery(movie_id, limit=1))
    assert caught.value.reason is Reason.UNKNOWN_MOVIE
    assert caught.value.metadata == {"movie_id": str(movie_id)}


@pytest.mark.row(17)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_movie_whose_factors_are_not_finite_is_cold(bad: float) -> None:
    item_factors = ITEM_FACTORS.copy()
    item_factors[2, 0] = bad
    model = SimilarityIndex(bundle_id="b", movies=MOVIES, item_factors=item_factors, neighbours=NEIGHBOURS)
    assert model.similar(SimilarQuery(10, limit=9)).movie_ids.tolist() == [20, 50]
    assert model.similar(SimilarQuery(30, limit=9)).method is SimilarityMethod.GENRE_JACCARD


def test_golden_values_are_checked() -> None:
    index().check(GoldenSimilar(movie_id=10, movie_ids=(20, 30), scores=(1.0, 0.6)))
    for movie_ids, scores in (((20, 30), (1.0, 0.61)), ((30, 20), (1.0, 0.6))):
        with pytest.raises(BundleError, match="golden"):
            index().check(GoldenSimilar(movie_id=10, movie_ids=movie_ids, scores=scores))


def test_computed_neighbours_are_those_of_training(bundle_root: Path) -> None:
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    folder = store.folder(bundle_id, "similarity")
    index = SimilarityIndex.load(store, bundle_id)
    stored = NeighboursContent.read(folder)
    for row, movie_id in enumerate(read_movies(folder).ids.ids.tolist()):
        n_stored = int(np.count_nonzero(stored.movie_rows[row] >= 0))
        longer = index.similar(SimilarQuery(movie_id, limit=n_stored + 1))
        np.testing.assert_allclose(longer.scores[:n_stored], stored.scores[row, :n_stored], atol=1e-6)
        assert len(set(longer.movie_ids.tolist())) == longer.movie_ids.size
        assert movie_id not in longer.movie_ids
