"""What is trending, on ratings whose scores follow by hand."""

from tests.training.small import ratings_of
from training.data.trending import HALF_LIFE_DAYS, trending

HALF_LIFE = int(HALF_LIFE_DAYS * 24 * 60 * 60)


def test_stars_above_the_middle_count_and_halve_with_age() -> None:
    rated = ratings_of([(0, 4.5, 0), (1, 4.5, HALF_LIFE), (2, 4.5, 2 * HALF_LIFE), (3, 1.0, 2 * HALF_LIFE)])
    assert trending(rated, 5).tolist() == [0.5, 1.0, 2.0, 0.0, 0.0]


def test_ratings_add_up_and_without_times_all_are_of_one_age() -> None:
    assert trending(ratings_of([(1, 5.0, 0), (1, 3.0, 0), (0, 4.0, 0)]), 2).tolist() == [1.5, 3.0]


def test_a_few_wrong_clocks_do_not_make_all_others_old() -> None:
    right = [[(1, 5.0, HALF_LIFE)], [(2, 4.0, 2 * HALF_LIFE)]]
    rated = ratings_of(*right * 1_000, *[[(0, 5.0, 2**32 - 1)]] * 2)
    assert trending(rated, 3).tolist() == [5.0, 1_250.0, 1_500.0]


def test_without_ratings_nothing_is_trending() -> None:
    assert trending(ratings_of([]), 2).tolist() == [0.0, 0.0]
