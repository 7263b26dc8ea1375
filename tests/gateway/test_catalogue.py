"""What the gateway takes from a bundle, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from serving.bundle.factors import SeenMovies
from serving.bundle.store import BundleError
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ids import IdMap
from tests.gateway.small_world import catalogue


def test_seen_movies_of_an_unknown_user_are_none() -> None:
    assert catalogue().seen_movie_ids(12345).tolist() == []
    assert catalogue().seen_movie_ids(100).tolist() == [1, 2]


def test_what_is_blocked() -> None:
    blocked = catalogue().blocked(
        MovieFilter(exclude_genres=("horror",)), seen_by_user_id=100, exclude_movie_ids=np.array([3, 999])
    )
    assert (np.flatnonzero(blocked) + 1).tolist() == [1, 2, 3, 6, 7]


def test_every_mask_is_fresh() -> None:
    held = catalogue()
    held.blocked(UNRESTRICTED)[:] = True
    assert not held.blocked(UNRESTRICTED).any()


def test_parts_of_unequal_length_are_refused() -> None:
    held = catalogue()
    with pytest.raises(BundleError, match="not of one length"):
        replace(held, content=replace(held.content, titles=held.content.titles[:-1]))
    with pytest.raises(BundleError, match="not of one length"):
        replace(held, content=replace(held.content, popularity=held.content.popularity[:-1]))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_popularity_that_is_no_number_is_refused(number: float) -> None:
    held = catalogue()
    popularity = held.content.popularity.copy()
    popularity[3] = number
    with pytest.raises(BundleError, match="not a number"):
        replace(held, content=replace(held.content, popularity=popularity))


@pytest.mark.parametrize("row", [-1, 8])
def test_ratings_of_unknown_movies_are_refused(row: int) -> None:
    seen = SeenMovies(IdMap([1]), np.array([0, 1]), np.array([row], np.int32))
    held = catalogue()
    with pytest.raises(BundleError, match="ratings of movies"):
        replace(held, seen=seen)
