"""Retrieval against sorting everything, ties, blocked movies and all."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.retrieval import (
    Candidates,
    RowsByNorm,
    best,
    best_first,
    finite_factors,
    inner_products,
    retrieve,
    retrieve_by_norm,
    score_and_rank,
)

Floats = npt.NDArray[np.float32]


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def nothing_blocked(n_movies: int) -> npt.NDArray[np.bool_]:
    return np.zeros(n_movies, dtype=np.bool_)


def alone(item_factors: Floats, vector: Floats, blocked: npt.NDArray[np.bool_], limit: int) -> Candidates:
    (found,) = retrieve(item_factors, vector[None], [blocked], [limit])
    return found


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), limit=st.integers(1, 70))
def test_the_best_are_those_that_sorting_everything_puts_first(seed: int, n: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, n).astype(np.float32)
    scores[rng.random(n) < 0.2] = -np.inf
    rows = rng.permutation(n).astype(np.int32)
    assert best(scores, rows, limit).tolist() == best_first(scores, rows)[:limit].tolist()


@given(st.lists(st.sampled_from([np.nan, -np.inf, np.inf, 0.0, 1.0, 1.5]) | st.floats(width=32), max_size=40))
def test_the_best_come_first_and_ties_by_row(scores: list[float]) -> None:
    values = np.array(scores, np.float32)
    rows = np.random.default_rng(0).permutation(values.size).astype(np.int32)
    assert best_first(values, rows).tolist() == np.lexsort((rows, -values)).tolist()


@given(
    seed=st.integers(0, 2**32 - 1),
    n_movies=st.integers(1, 150),
    limit=st.integers(1, 160),
    blocked_share=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    spread=st.sampled_from([1, 2, 1000]),
)
def test_equals_sorting_everything(
    seed: int, n_movies: int, limit: int, blocked_share: float, spread: int
) -> None:
    """Small whole numbers: exact in float32, and full of ties where they spread little."""
    rng = np.random.default_rng(seed)
    item_factors = rng.integers(-spread, spread + 1, (n_movies, 3)).astype(np.float32)
    vectors = rng.integers(-spread, spread + 1, (4, 3)).astype(np.float32)
    blocked = rng.random((4, n_movies)) < blocked_share
    found = retrieve(item_factors, vectors, list(blocked), [limit] * 4)
    for one, vector, out in zip(found, vectors, blocked, strict=True):
        scores = item_factors.astype(np.int64) @ vector.astype(np.int64)
        order = [row for row in np.argsort(-scores, kind="stable").tolist() if not out[row]][:limit]
        assert one.movie_rows.tolist() == order
        assert one.scores.tolist() == scores[order].tolist()
        assert (one.movie_rows.dtype, one.scores.dtype) == (np.dtype(np.int32), np.dtype(np.float32))


@pytest.mark.parametrize("alike", [False, True], ids=["random", "one direction"])
def test_products_and_scans_equal_sorting_exact_products(*, alike: bool) -> None:
    """Where all movies differ in last bits only, a product in float32 puts them in any order.

    They lie in the user's own direction, too, where Cauchy-Schwarz is an equality.
    """
    item_factors, vector = normal(12, 5_000, 64), normal(11, 64)
    if alike:
        item_factors = (vector * (1 + 1e-7 * item_factors[:300])).astype(np.float32)
    n_movies, limit = len(item_factors), 10 if alike else 300
    exact = (item_factors.astype(np.float64) * vector).sum(axis=1).astype(np.float32)
    order = np.argsort(-exact, kind="stable")[:limit]
    items = RowsByNorm.of(item_factors)
    (scanned,) = retrieve_by_norm(items, vector[None], [nothing_blocked(n_movies)], [limit], block_rows=16)
    for found in (alone(item_factors, vector, nothing_blocked(n_movies), limit), scanned):
        assert found.movie_rows.tolist() == order.tolist()
        assert found.scores.tobytes() == exact[order].tobytes()


@pytest.mark.parametrize("alike", [1, 40], ids=["all different", "in groups of 40 alike"])
def test_batch_equals_singles_to_the_last_bit(alike: int) -> None:
    item_factors = np.repeat(normal(1, 2_000 // alike, 64), alike, axis=0)
    vectors = normal(2, 33, 64)
    blocked = np.random.default_rng(3).random((33, 2_000)) < 0.2
    limits = [1, 10, 300] * 11
    together = retrieve(item_factors, vectors, list(blocked), limits)
    for found, vector, out, limit in zip(together, vectors, blocked, limits, strict=True):
        single = alone(item_factors, vector, out, limit)
        assert found.movie_rows.tolist() == single.movie_rows.tolist()
        assert found.scores.tobytes() == single.scores.tobytes()
        assert not out[found.movie_rows].any()
        assert found.movie_rows.size == limit


@given(
    seed=st.integers(0, 2**32 - 1),
    n_movies=st.integers(0, 200),
    n_factors=st.sampled_from([1, 3, 64]),
    limit=st.integers(1, 210),
    blocked_share=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    skew=st.sampled_from([0.0, 1.0, 3.0]),
    whole=st.booleans(),
)
def test_the_scan_by_norm_equals_the_matrix_product_to_the_last_bit(
    seed: int, n_movies: int, n_factors: int, *, limit: int, blocked_share: float, skew: float, whole: bool
) -> None:
    """Norms from equal to a thousandfold apart, in blocks of 16; whole numbers are full of ties."""
    rng = np.random.default_rng(seed)
    factors = rng.integers(-2, 3, (n_movies, n_factors)) if whole else rng.normal(size=(n_movies, n_factors))
    item_factors = (factors * np.exp(skew * rng.normal(size=(n_movies, 1)))).astype(np.float32)
    item_factors[rng.random(n_movies) < 0.1] = 0
    vectors = rng.normal(size=(3, n_factors)).astype(np.float32)
    masks = list(rng.random((3, n_movies)) < blocked_share)
    scanned = retrieve_by_norm(RowsByNorm.of(item_factors), vectors, masks, [limit] * 3, block_rows=16)
    for one, vector, out in zip(scanned, vectors, masks, strict=True):
        rows = np.flatnonzero(~out).astype(np.int32)
        scores = inner_products(item_factors, vector, rows)
        order = best_first(scores, rows)[:limit]
        assert one.movie_rows.tolist() == rows[order].tolist()
        assert one.scores.tobytes() == scores[order].tobytes()
        if n_movies:
            product = alone(item_factors, vector, out, limit)
            assert product.movie_rows.tolist() == one.movie_rows.tolist()
            assert product.scores.tobytes() == one.scores.tobytes()
            assert (one.movie_rows.dtype, one.scores.dtype) == (
                product.movie_rows.dtype,
                product.scores.dtype,
            )


def test_the_scan_ends_where_no_later_row_can_be_among_the_best() -> None:
    """A row that is not read cannot spoil the answer; the share of those that are is told beforehand."""
    item_factors = normal(14, 10_000, 8)
    item_factors[1_000:] *= 1e-3
    items, vector = RowsByNorm.of(item_factors), normal(15, 8)
    items.factors[5_000:] = np.inf
    (found,) = retrieve_by_norm(items, vector[None], [nothing_blocked(10_000)], [10])
    product = alone(item_factors, vector, nothing_blocked(10_000), 10)
    assert found.movie_rows.tolist() == product.movie_rows.tolist()
    assert 10 / 10_000 < items.share_read(vector[None], found.scores[-1:]) <= 0.1
    assert items.share_read(vector[None], np.array([-np.inf], np.float32)) == 1


@pytest.mark.parametrize("alike", [1, 40], ids=["all different", "in groups of 40 alike"])
def test_scores_and_ranks_equal_sorting_everything(alike: int) -> None:
    item_factors, vector = np.repeat(normal(11, 2_000 // alike, 64), alike, axis=0), normal(12, 64)
    blocked = np.random.default_rng(13).random(2_000) < 0.5
    found = alone(item_factors, vector, blocked, 2_000)
    for row in range(0, 2_000, 7):
        score, rank = score_and_rank(item_factors, vector, blocked, row)
        assert score == inner_products(item_factors, vector, np.array([row], np.int32))[0]
        if not blocked[row]:
            assert found.movie_rows[rank - 1] == row
        else:  # the place where it would stand
            opened = blocked.copy()
            opened[row] = False
            assert alone(item_factors, vector, opened, 2_000).movie_rows[rank - 1] == row


def test_where_nothing_may_be_returned_every_movie_would_be_first_and_masks_are_left_alone() -> None:
    item_factors, vector, blocked = normal(6, 50, 4), normal(7, 4), nothing_blocked(50)
    assert score_and_rank(item_factors, vector, ~blocked, 49)[1] == 1
    alone(item_factors, vector, blocked, 10)
    assert not blocked.any()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_scores_that_overflow_take_no_place() -> None:
    """Finite factors, but products beyond float32, and of opposite signs: infinite and NaN."""
    item_factors = normal(8, 100, 2)
    item_factors[:50] = [[3e38, 0.0]]
    item_factors[50:60] = [[3e38, -3e38]]
    vector = np.array([10, 10], dtype=np.float32)
    found = alone(item_factors, vector, nothing_blocked(100), 40)
    assert sorted(found.movie_rows.tolist()) == list(range(60, 100))
    (scanned,) = retrieve_by_norm(RowsByNorm.of(item_factors), vector[None], [nothing_blocked(100)], [40])
    assert scanned.movie_rows.tolist() == found.movie_rows.tolist()


def test_a_movies_score_does_not_depend_on_its_neighbours() -> None:
    item_factors, vector = normal(9, 100, 64), normal(10, 64)
    rows = np.arange(100, dtype=np.int32)
    all_of_them = inner_products(item_factors, vector, rows)
    assert all_of_them.tobytes() == b"".join(
        inner_products(item_factors, vector, rows[[row]]).tobytes() for row in rows
    )
    np.testing.assert_allclose(all_of_them, item_factors @ vector, rtol=1e-4, atol=1e-5)


def test_rows_that_are_not_finite_become_zero() -> None:
    factors = np.array([[1, 2], [np.nan, 1], [1, np.inf], [-np.inf, 0], [3, 4]], dtype=np.float32)
    assert finite_factors(factors).tolist() == [[1, 2], [0, 0], [0, 0], [0, 0], [3, 4]]
    assert np.isnan(factors[1, 0])
    assert finite_factors(factors[[0, 4]]).dtype == np.dtype(np.float32)
