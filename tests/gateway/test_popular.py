"""Popular lists and single movies: from memory alone."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.fallback import FallbackPolicy
from gateway.lists.list_builder import ListAnswer
from gateway.requests import PopularRequest, SimilarRequest
from serving.errors import DeadlineError, NotFoundError, UnavailableError
from serving.stages.stage import StageName
from tests.gateway.small_world import (
    BUDGETS,
    BUNDLE,
    OTHER_BUNDLE,
    POPULARITY,
    World,
    catalogue,
    failing,
    ids,
)

BY_POPULARITY = [1, 2, 5, 3, 8, 6, 4, 7]


async def ask(world: World, **fields: Any) -> ListAnswer:
    return await world.api.popular(PopularRequest(**fields), None)


async def test_the_whole_catalogue_by_popularity(world: World) -> None:
    answer = await ask(world)
    assert ids(answer) == BY_POPULARITY  # ties to the lower id: 2 before 5, 4 before 7
    assert [item.score for item in answer.items] == [5.0, 4.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    assert answer.total_size == 8
    assert {item.source for item in answer.items} == {"popularity_fallback"}
    assert (answer.model, answer.degraded, answer.reason) == ("popularity_fallback", False, None)
    assert answer.bundle_id == BUNDLE
    assert world.counted("answers", method="ListPopularMovies", model="popularity_fallback") == 1
    assert not world.candidates.queries


async def test_too_little_time_is_an_error(world: World) -> None:
    with pytest.raises(DeadlineError):
        await world.api.popular(PopularRequest(), 0.01)
    with pytest.raises(DeadlineError):
        await world.api.movie(1, 0.01)


async def test_without_time_to_ask_what_was_seen_the_list_is_degraded() -> None:
    world = World(replace(catalogue(), seen=None, ratings=None))  # as with users in shards
    answers = [
        await world.api.popular(PopularRequest(exclude_seen_by_user_id=100), BUDGETS.reserve),
        await world.api.similar(SimilarRequest(movie_id=1, exclude_seen_by_user_id=100), BUDGETS.reserve),
    ]
    assert [(answer.degraded, answer.reason) for answer in answers] == [(True, "DEPENDENCY_TIMEOUT")] * 2


async def test_who_denies_fallbacks_gets_no_list_that_may_have_seen_movies() -> None:
    world = World(replace(catalogue(), seen=None, ratings=None))
    world.candidates.answer = failing(StageName.CANDIDATE)
    request = SimilarRequest(movie_id=1, exclude_seen_by_user_id=100, fallback_policy=FallbackPolicy.DENY)
    with pytest.raises(UnavailableError, match="candidate"):
        await world.api.similar(request, None)
    with pytest.raises(NotFoundError):  # whoever is away
        await world.api.similar(replace(request, movie_id=999), None)


async def test_a_movie_that_only_the_bundle_before_has() -> None:
    world = World(catalogue(OTHER_BUNDLE, seen={}, popularity=POPULARITY[:5]), catalogue())
    assert (await world.api.movie(5, None)).catalogue.bundle_id == OTHER_BUNDLE
    assert (await world.api.movie(6, None)).catalogue.bundle_id == BUNDLE
    with pytest.raises(NotFoundError):
        await world.api.movie(9, None)
