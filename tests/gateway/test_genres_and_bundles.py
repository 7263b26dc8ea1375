"""A filter on a genre that the catalogue lacks, and a bundle that is not served, are refused by name."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.lists.catalogue import require_bundles, require_genres
from gateway.requests import PersonalRequest, PopularRequest, SearchRequest, SimilarRequest, WhyRequest
from serving.errors import InvalidArgumentError, UnavailableError
from serving.filters import UNRESTRICTED, MovieFilter
from serving.movies import NO_GENRE, Movies
from tests.gateway.small_world import BUNDLE, OTHER_BUNDLE, HeldCatalogues, World, catalogue

LACKING = MovieFilter(genres=("drama", "Telenovela"), exclude_genres=("Western",))
FIELDS = ["filter.genres[1]", "filter.exclude_genres[0]"]


def fields(error: pytest.ExceptionInfo[InvalidArgumentError]) -> list[str]:
    return [violation.field for violation in error.value.violations]


async def test_every_list_refuses_it(world: World) -> None:
    for ask in (
        world.api.popular(PopularRequest(movie_filter=LACKING), None),
        world.api.personal(PersonalRequest(user_id=100, movie_filter=LACKING), None),
        world.api.similar(SimilarRequest(movie_id=1, movie_filter=LACKING), None),
        world.api.why(WhyRequest(1, PersonalRequest(user_id=100, movie_filter=LACKING)), None),
        world.api.search(SearchRequest(query="movie", movie_filter=LACKING), None),
    ):
        with pytest.raises(InvalidArgumentError) as error:
            await ask
        assert fields(error) == FIELDS
    assert not world.candidates.queries


@pytest.mark.parametrize(
    ("wish", "named"), [({"movie_filter": LACKING}, FIELDS), ({"bundle_id": "gone"}, ["bundle_id"])]
)
async def test_a_batch_names_the_request(wish: dict[str, Any], named: list[str]) -> None:
    world = World(catalogue(OTHER_BUNDLE), catalogue())
    wishes: list[dict[str, Any]] = [{"bundle_id": BUNDLE}, wish, {}]
    with pytest.raises(InvalidArgumentError) as error:
        await world.api.personal_batch([PersonalRequest(user_id=100, **one) for one in wishes], None)
    assert fields(error) == [f"requests[1].{field}" for field in named]
    assert not world.candidates.queries


def test_the_error_names_the_genre_and_those_that_there_are() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        require_genres(HeldCatalogues([catalogue()]), {"": LACKING})
    assert error.value.violations[0].description == (
        "must be a genre of the catalogue, which has no 'Telenovela'"
    )
    assert error.value.metadata == {"genres": "(no genres listed), Comedy, Drama, Horror, War"}


def test_what_any_bundle_that_is_held_has_is_let_through() -> None:
    current = catalogue()
    movies = current.movies
    own = Movies(movies.ids, movies.years, np.full(8, 2, np.uint64), (NO_GENRE, "Family"))
    held = HeldCatalogues([replace(current, movies=own), catalogue()])
    require_genres(held, {"": MovieFilter(genres=("FAMILY", "War"))})
    with pytest.raises(InvalidArgumentError) as error:
        require_genres(held, {"": MovieFilter(genres=("Western",))})
    assert error.value.metadata["genres"].startswith("Family, (no genres listed), Comedy")


def test_without_a_bundle_only_filters_on_genres_need_one() -> None:
    none = HeldCatalogues([])
    require_genres(none, {"": UNRESTRICTED, "requests[1].": MovieFilter(min_year=1990)})
    with pytest.raises(UnavailableError):
        require_genres(none, {"": LACKING})


RULE = f"must be empty, or a bundle that is served: {OTHER_BUNDLE}, {BUNDLE}"


async def test_a_bundle_that_is_not_served_is_refused() -> None:
    world = World(catalogue(OTHER_BUNDLE), catalogue())
    with pytest.raises(InvalidArgumentError) as error:
        await world.api.personal(PersonalRequest(user_id=100, bundle_id="gone"), None)
    assert [(one.field, one.description) for one in error.value.violations] == [("bundle_id", RULE)]
    assert not world.candidates.queries


def test_bundles_that_are_held_are_let_through() -> None:
    held = HeldCatalogues([catalogue(OTHER_BUNDLE), catalogue()])
    require_bundles(held, {"": "", "requests[0].": BUNDLE, "requests[1].": OTHER_BUNDLE})


def test_without_a_bundle_one_that_is_named_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        require_bundles(HeldCatalogues(), {"": BUNDLE})
    require_bundles(HeldCatalogues(), {"": ""})  # which names none: whoever needs one will say so
