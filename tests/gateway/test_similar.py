"""Similar lists: the index, shared genres, nothing."""

from typing import Any

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from gateway.fallback import FallbackPolicy
from gateway.lists.list_builder import ListAnswer
from gateway.requests import SimilarRequest
from serving.errors import NotFoundError, Reason, UnavailableError
from serving.filters import MovieFilter
from serving.stages.similarity import SimilarityMethod, SimilarMovies, SimilarQuery
from serving.stages.stage import FallbackReason, StageError, StageName
from tests.gateway.small_world import (
    BUNDLE,
    OTHER_BUNDLE,
    POPULARITY,
    StubSimilarity,
    World,
    catalogue,
    failing,
    ids,
    neighbours,
    sources,
)

COSINE, GENRES, NOTHING = "als_cosine", "genre_jaccard", "not_available"
FAULT = "DEPENDENCY_UNAVAILABLE"
DENY = FallbackPolicy.DENY
COLD = SimilarityMethod.GENRE_JACCARD

# Shared genres with movie 1 (Comedy, Drama): 5 shares 2 of 3; 2, 3 and 8 share 1 of 2; 7 shares 1 of 3.
# Of those that tie, the more popular comes first: 2 (4.0), 3 (3.0), 8 (2.0).
LIKE_MOVIE_1 = [5, 2, 3, 8, 7]


async def ask(world: World, movie_id: int = 1, **fields: Any) -> ListAnswer:
    return await world.api.similar(SimilarRequest(movie_id=movie_id, **fields), None)


async def test_the_index_answers(world: World) -> None:
    world.similarity.answer = neighbours(4, 6)
    answer = await ask(world, limit=2)
    assert ids(answer) == [4, 6]
    assert sources(answer) == [COSINE, COSINE]
    assert (answer.model, answer.degraded, answer.reason, answer.bundle_id) == (COSINE, False, None, BUNDLE)
    assert world.counted("answers", method="ListSimilarMovies", model=COSINE) == 1


async def test_a_short_list_is_filled_by_shared_genres(world: World) -> None:
    world.similarity.answer = neighbours(4, 5)
    answer = await ask(world, limit=5)
    assert ids(answer) == [4, 5, 2, 3, 8]
    assert sources(answer) == [COSINE, COSINE, GENRES, GENRES, GENRES]
    assert (answer.model, answer.degraded, answer.reason) == (COSINE, False, "NO_CANDIDATES")


async def test_a_cold_movie_is_compared_by_genres(world: World) -> None:
    world.similarity.answer = neighbours(8, 5, method=COLD)
    with capture_logs() as lines:
        answer = await ask(world, limit=2)
    assert ids(answer) == [8, 5]
    assert (answer.model, answer.degraded, answer.reason) == (GENRES, False, "COLD_MOVIE")
    assert world.counted("fallbacks", service="similarity", reason="COLD_MOVIE") == 1
    assert not lines
    denied = await ask(world, limit=2, fallback_policy=DENY)  # it is no fallback
    assert (ids(denied), denied.model, denied.reason) == ([8, 5], GENRES, "COLD_MOVIE")
    longer = await ask(world)  # is our own
    assert ids(longer) == LIKE_MOVIE_1
    assert (longer.model, longer.degraded, longer.reason) == (GENRES, False, "COLD_MOVIE")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(neighbours(method=COLD), "COLD_MOVIE", marks=pytest.mark.row(16)),
        pytest.param(
            failing(StageName.SIMILARITY, FallbackReason.MODEL_UNAVAILABLE),
            "MODEL_UNAVAILABLE",
            marks=pytest.mark.row(7),
        ),
    ],
    ids=["cold", "without the index"],
)
async def test_a_movie_without_genres_is_like_nothing(
    world: World, answer: SimilarMovies | StageError, reason: str
) -> None:
    world.similarity.answer = answer
    found = await ask(world, movie_id=4)
    assert ids(found) == []
    assert (found.model, found.degraded, found.reason) == (NOTHING, reason != "COLD_MOVIE", reason)


async def test_without_the_index_genres_are_compared(world: World) -> None:
    world.similarity.answer = failing(StageName.SIMILARITY)
    with capture_logs() as lines:
        answer = await ask(world)
    assert ids(answer) == LIKE_MOVIE_1
    assert [round(item.score, 4) for item in answer.items] == [0.6667, 0.5, 0.5, 0.5, 0.3333]
    assert (answer.model, answer.degraded, answer.reason) == (GENRES, True, FAULT)
    assert world.counted("degraded", method="ListSimilarMovies") == 1
    assert world.counted("fallbacks", service="similarity", reason=FAULT) == 1
    assert [line["log_level"] for line in lines] == ["warning"]


@pytest.mark.parametrize("limit", range(1, 6))
async def test_a_shorter_list_by_genres_is_the_start_of_the_longer(world: World, limit: int) -> None:
    world.similarity.answer = failing(StageName.SIMILARITY)
    assert ids(await ask(world, limit=limit)) == LIKE_MOVIE_1[:limit]


async def test_an_unknown_movie_is_not_found_and_nobody_is_asked(world: World) -> None:
    with pytest.raises(NotFoundError) as caught:
        await ask(world, movie_id=9)
    assert caught.value.reason is Reason.UNKNOWN_MOVIE
    assert caught.value.metadata == {"movie_id": "9"}
    assert not world.similarity.queries


async def test_filter_and_seen_movies_go_down_to_the_index(world: World) -> None:
    world.similarity.answer = neighbours(3)
    comedy = MovieFilter(genres=("comedy",))
    await ask(world, exclude_seen_by_user_id=100, movie_filter=comedy, limit=7)
    (query,) = world.similarity.queries
    assert (query.movie_id, query.limit) == (1, 7)
    assert query.exclude_movie_ids.tolist() == [1, 2]
    assert query.movie_filter == comedy


async def test_when_all_neighbours_fail_the_filter_genres_take_over(world: World) -> None:
    world.similarity.answer = neighbours()
    answer = await ask(world, movie_filter=MovieFilter(genres=("War",)))
    assert (ids(answer), answer.model, answer.reason) == ([5], GENRES, "FILTERED_OUT")
    assert not answer.degraded


@pytest.mark.row(18)
async def test_unknown_movies_are_dropped_and_counted(world: World) -> None:
    world.similarity.answer = neighbours(900, 6)
    assert ids(await ask(world, limit=2)) == [6, 5]
    assert world.counted("unknown_items") == 1


async def test_neighbours_of_a_bundle_that_is_not_held_are_not_shown(world: World) -> None:
    world.similarity.answer = neighbours(6, 7, bundle_id=OTHER_BUNDLE)
    answer = await ask(world, limit=2)
    assert (ids(answer), answer.bundle_id) == ([5, 2], BUNDLE)
    assert (answer.model, answer.degraded, answer.reason) == (GENRES, True, "BUNDLE_MISMATCH")


# While a bundle is rolled out, the gateway holds two, and the index has either.


async def test_all_of_a_list_is_of_the_bundle_of_the_index() -> None:
    world = World(catalogue(OTHER_BUNDLE, popularity=POPULARITY[::-1]), catalogue())
    world.similarity.answer = neighbours(6)
    answer = await ask(world, limit=4)
    assert ids(answer) == [6, 5, 2, 3]  # 5 shares most; then by this bundle's popularity
    assert (answer.model, answer.bundle_id, answer.degraded) == (COSINE, BUNDLE, False)
    assert len(world.similarity.queries) == 1


@pytest.mark.parametrize(("bundle_id", "expected"), [(BUNDLE, [3, 6]), (OTHER_BUNDLE, [6, 7])])
async def test_seen_movies_are_those_of_the_bundle_of_the_index(bundle_id: str, expected: list[int]) -> None:
    world = World(catalogue(OTHER_BUNDLE, seen={100: (1, 2, 3)}), catalogue())
    world.similarity.answer = neighbours(3, 6, 7, bundle_id=bundle_id)
    answer = await ask(world, exclude_seen_by_user_id=100, limit=2)
    assert (ids(answer), answer.model, answer.bundle_id) == (expected, COSINE, bundle_id)
    (query,) = world.similarity.queries
    assert (query.exclude_movie_ids.tolist(), query.limit) == ([1, 2], 3)  # 3 was seen by one bundle alone


async def test_an_index_that_answers_from_a_bundle_that_came_meanwhile_is_asked_again() -> None:
    world = World(catalogue())

    class RolledOut(StubSimilarity):
        @override
        async def ask(self, query: SimilarQuery, *, seconds: float) -> SimilarMovies:
            world.catalogues.catalogues = [catalogue(OTHER_BUNDLE, seen={100: (1, 2, 3)}), catalogue()]
            return await super().ask(query, seconds=seconds)

    index = RolledOut()
    index.answer = neighbours(3, 6, 7, bundle_id=OTHER_BUNDLE)
    world.api = world.gateway(similarity=index)
    answer = await ask(world, exclude_seen_by_user_id=100, limit=2)
    assert (ids(answer), answer.bundle_id) == ([6, 7], OTHER_BUNDLE)
    assert [query.limit for query in index.queries] == [2, 3]


async def test_a_movie_that_only_the_bundle_before_has() -> None:
    world = World(catalogue(OTHER_BUNDLE, popularity=POPULARITY[:5], seen={}), catalogue())
    world.similarity.answer = neighbours(7, 3)
    assert ids(await ask(world, movie_id=6, limit=2)) == [7, 3]
    for reason in (FallbackReason.BUNDLE_MISMATCH, FallbackReason.DEPENDENCY_UNAVAILABLE):  # gone on, or away
        world.similarity.answer = failing(StageName.SIMILARITY, reason)
        answer = await ask(world, movie_id=6)
        assert (ids(answer), answer.bundle_id, answer.reason) == ([7], BUNDLE, reason)
        assert (answer.model, answer.degraded) == (GENRES, True)
        with pytest.raises(UnavailableError) as caught:
            await ask(world, movie_id=6, fallback_policy=DENY)
        assert caught.value.metadata == {"service": "similarity", "cause": reason}


@pytest.mark.parametrize("found", [(4, 6), ()])
async def test_deny_keeps_a_list_as_short_as_it_is(world: World, found: tuple[int, ...]) -> None:
    world.similarity.answer = neighbours(*found)
    answer = await ask(world, fallback_policy=DENY)
    assert (ids(answer), answer.model, answer.reason) == ([*found], COSINE, "NO_CANDIDATES")
