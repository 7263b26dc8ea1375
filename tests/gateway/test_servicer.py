"""The public API over a real channel, through the kit's server: what clients see."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode, aio
from typing_extensions import override

from gateway.lists.why import Verdict
from gateway.stages.monitor import StageStatus
from movierec.gateway.v1 import movie_service_pb2 as public
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.errors import Reason
from serving.rpc.metrics import LATENCY_BUCKETS
from serving.stages.candidate import LikedMovies, UserVector
from serving.stages.stage import FallbackReason, StageName
from tests.gateway.served import served
from tests.gateway.small_world import (
    BUNDLE,
    OTHER_BUNDLE,
    StubMonitor,
    World,
    candidates,
    catalogue,
    failing,
)
from tests.serving.stage_under_test import failure, info_of, violations_of


@pytest.fixture
async def api(world: World) -> AsyncIterator[MovieServiceStub]:
    async with served(world) as stub:
        yield stub


async def refused(call: Any, code: StatusCode, reason: Reason) -> aio.AioRpcError:
    error = await failure(call)
    assert error.code() is code
    info = info_of(error)
    assert (info.reason, info.domain) == (reason, "movierec")
    return error


def ids(response: Any) -> list[int]:
    return [item.movie.movie_id for item in response.movies]


async def test_personal(api: MovieServiceStub, world: World) -> None:
    world.candidates.answer = candidates(3, 4)
    answer = await api.ListPersonalMovies(
        public.ListPersonalMoviesRequest(user_id=300, limit=3, explain_features=2)
    )
    assert ids(answer) == [4, 3, 1]
    assert [item.rank for item in answer.movies] == [1, 2, 3]
    assert [item.source for item in answer.movies] == ["two_stage", "two_stage", "popularity_fallback"]
    assert (answer.model, answer.degraded) == ("two_stage", False)
    assert answer.fallback_reason == public.FALLBACK_REASON_NO_CANDIDATES
    assert answer.bundle_id == BUNDLE
    assert len(answer.recommendation_id) == 32
    assert answer.base_value == -2.0
    als_score, year = answer.movies[0].explanation
    assert (als_score.feature, als_score.value, als_score.contribution) == ("als_score", 0.5, 0.25)
    assert (als_score.phrase, als_score.movie_id) == ("often rated soon after Movie 1", 1)
    assert (year.feature, year.HasField("value"), year.contribution) == ("year", False, -0.125)
    assert (year.phrase, year.HasField("movie_id")) == ("of an unknown year", False)
    assert not answer.movies[2].explanation


async def test_a_movie_of_several_lists_has_the_source_and_rank_of_each(
    api: MovieServiceStub, world: World
) -> None:
    world.candidates.answer = candidates(3)
    in_answers = [
        next(item for item in answer.movies if item.movie.movie_id == 3)
        for answer in (
            await api.ListPopularMovies(public.ListPopularMoviesRequest(limit=10)),
            await api.ListPersonalMovies(public.ListPersonalMoviesRequest(user_id=300, limit=1)),
            await api.ListPopularMovies(public.ListPopularMoviesRequest(limit=10)),
        )
    ]
    popular, personal, popular_again = in_answers
    assert (popular.source, personal.source) == ("popularity_fallback", "two_stage")
    assert popular.rank > personal.rank == 1
    assert not personal.explanation
    assert popular_again == popular
    assert popular.movie == personal.movie


async def test_all_fields_of_a_personal_request_arrive(api: MovieServiceStub, world: World) -> None:
    world.candidates.answer = candidates(8, user_vector=UserVector.FOLDED_IN)
    request = public.ListPersonalMoviesRequest(
        limit=1,
        filter=public.MovieFilter(genres=["Comedy"], exclude_genres=["War"], min_year=1990, max_year=2000),
        exclude_movie_ids=[4, 4],
        include_seen=True,
        history=[public.RatedMovie(movie_id=2), public.RatedMovie(movie_id=3, rating=2.5)],
        diversity=0.5,
    )
    request.history[1].rate_time.seconds = 1_500_000_000
    assert ids(await api.ListPersonalMovies(request)) == [8]
    (query,) = world.candidates.queries
    assert query.user_id == 0
    assert query.movie_filter.genres == ("Comedy",)
    assert query.movie_filter.exclude_genres == ("War",)
    assert (query.movie_filter.min_year, query.movie_filter.max_year) == (1990, 2000)
    assert query.exclude_movie_ids.tolist() == [4, 4]
    assert query.include_seen
    assert query.history.movie_ids == (2, 3)
    assert query.history.values == (5.0, 2.5)  # without stars: liked
    assert query.history.times[1] == 1_500_000_000
    assert world.ranking.queries[0].diversity == 0.5


async def test_an_invalid_request_names_its_fields(api: MovieServiceStub, world: World) -> None:
    call = api.ListPersonalMovies(public.ListPersonalMoviesRequest(user_id=-1, diversity=float("nan")))
    error = await refused(call, StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)
    assert violations_of(error) == ["user_id", "diversity"]
    assert not world.candidates.queries


async def test_why(api: MovieServiceStub, world: World) -> None:
    world.candidates.answer = candidates(5, 8)
    request = public.WhyMovieRequest(
        movie_id=5,
        user_id=300,
        limit=1,
        filter=public.MovieFilter(genres=["Comedy"]),
        exclude_movie_ids=[2, 2],
        include_seen=True,
        explain_features=1,
    )
    answer = await api.WhyMovie(request)
    (query,) = world.candidates.queries
    assert (query.user_id, query.exclude_movie_ids.tolist(), query.include_seen) == (300, [2, 2], True)
    assert query.movie_filter.genres == ("Comedy",)
    assert query.probe_movie_ids == (5,)
    last = answer.last_movie
    assert (last.movie.movie_id, last.rank, last.score, last.source) == (8, 1, 1.0, "two_stage")
    (listed,) = (await api.ListPersonalMovies(public.ListPersonalMoviesRequest(user_id=300, limit=1))).movies
    assert last == listed
    assert answer == public.WhyMovieResponse(
        movie=(await api.GetMovie(public.GetMovieRequest(movie_id=5))).movie,
        verdict=public.VERDICT_RANKED_BELOW,
        retrieval=public.RetrievalStanding(
            score=query_score(world, 0),
            rank=1,
            cut_score=query_score(world, 1),
            sources=[public.SourceRank(source="als", rank=1)],
        ),
        ranking=public.RankingStanding(
            score=0.0,
            rank=2,
            base_value=-2.0,
            comparisons=[
                public.ContributionComparison(
                    feature="year",
                    value=1999.0,
                    contribution=2.0,
                    last_contribution=-0.125,
                    phrase="released in 1999",
                    last_phrase="of an unknown year",
                )
            ],
        ),
        last_movie=last,
        score_gap=1.0,
        model="two_stage",
        fallback_reason=public.FALLBACK_REASON_UNSPECIFIED,
        bundle_id=BUNDLE,
    )
    assert not answer.HasField("rank")


def query_score(world: World, place: int) -> float:
    return float(world.ranking.queries[0].retrieval_scores[place])


async def test_why_of_a_listed_and_of_a_seen_movie(api: MovieServiceStub, world: World) -> None:
    world.candidates.answer = candidates(5, 8)
    listed = await api.WhyMovie(public.WhyMovieRequest(movie_id=8, user_id=100))
    assert (listed.verdict, listed.rank, listed.seen) == (public.VERDICT_LISTED, 1, False)
    seen = await api.WhyMovie(public.WhyMovieRequest(movie_id=1, user_id=100, exclude_movie_ids=[1]))
    assert (seen.verdict, seen.excluded, seen.seen) == (public.VERDICT_EXCLUDED, True, True)


async def test_why_when_retrieval_fails(api: MovieServiceStub, world: World) -> None:
    world.candidates.answer = failing(StageName.CANDIDATE)
    answer = await api.WhyMovie(public.WhyMovieRequest(movie_id=6, user_id=300, limit=1))
    assert answer.verdict == public.VERDICT_RETRIEVAL_FAILED
    assert (answer.model, answer.degraded) == ("popularity_fallback", True)
    assert answer.fallback_reason == public.FALLBACK_REASON_DEPENDENCY_UNAVAILABLE
    assert not answer.HasField("retrieval")
    assert not answer.HasField("ranking")


async def test_why_can_be_turned_off(world: World) -> None:
    world.api = world.gateway(why_movie=False)
    async with served(world) as api:
        for request in (public.WhyMovieRequest(movie_id=1, user_id=1), public.WhyMovieRequest()):
            error = await refused(api.WhyMovie(request), StatusCode.UNIMPLEMENTED, Reason.METHOD_DISABLED)
            assert info_of(error).metadata == {"method": "WhyMovie"}
        assert (await api.GetMovie(public.GetMovieRequest(movie_id=1))).movie.movie_id == 1


async def test_because_of(api: MovieServiceStub, world: World) -> None:
    answer = candidates(3)
    liked = LikedMovies(np.array([[1, 2]]), np.array([[0.5, 0.25]], np.float32))
    world.candidates.answer = replace(answer, because_of=liked)
    page = await api.ListPersonalMovies(public.ListPersonalMoviesRequest(user_id=100, limit=1, because_of=2))
    assert list(page.movies[0].because_of) == [
        public.LikedMovie(movie_id=1, title="Movie 1", weight=0.5),
        public.LikedMovie(movie_id=2, title="Movie 2", weight=0.25),
    ]
    assert world.candidates.queries[0].because_of == 2
    assert not page.HasField("base_value")  # without explanations


def test_every_verdict_is_in_the_public_enum_in_the_same_order() -> None:
    names = ["VERDICT_UNSPECIFIED", *(f"VERDICT_{verdict.name}" for verdict in Verdict)]
    assert public.Verdict.keys() == names


async def test_a_movie(api: MovieServiceStub, world: World) -> None:
    answer = await api.GetMovie(public.GetMovieRequest(movie_id=1))
    described = public.Movie(movie_id=1, title="Movie 1", year=1995, genres=["Comedy", "Drama"], tmdb_id=11)
    described.MergeFrom(public.Movie(rating_count=7, rating_mean=3.5))
    assert answer == public.GetMovieResponse(movie=described, bundle_id=BUNDLE)
    unknown = await api.GetMovie(public.GetMovieRequest(movie_id=4))  # but for its title
    assert unknown.movie == public.Movie(movie_id=4, title="Movie 4")


async def test_a_search(api: MovieServiceStub, world: World) -> None:
    request = public.SearchMoviesRequest(query="movie", limit=2, filter=public.MovieFilter(genres=["drama"]))
    answer = await api.SearchMovies(request)
    assert [(movie.movie_id, movie.title) for movie in answer.movies] == [(1, "Movie 1"), (5, "Movie 5")]
    assert answer.movies[0] == (await api.GetMovie(public.GetMovieRequest(movie_id=1))).movie
    assert answer.bundle_id == BUNDLE
    nothing = await api.SearchMovies(public.SearchMoviesRequest(query="?"))
    assert nothing == public.SearchMoviesResponse(bundle_id=BUNDLE)


@pytest.mark.row(57)
async def test_a_defect_leaks_nothing(api: MovieServiceStub, world: World) -> None:
    world.candidates.answer = RuntimeError("secret")
    call = api.ListPersonalMovies(public.ListPersonalMoviesRequest(user_id=300))
    error = await refused(call, StatusCode.INTERNAL, Reason.INTERNAL)
    assert "secret" not in str(error.details())


@pytest.mark.parametrize("reason", FallbackReason)
def test_every_reason_is_in_the_public_enum(reason: FallbackReason) -> None:
    assert f"FALLBACK_REASON_{reason}" in public.FallbackReason.keys()  # noqa: SIM118  # not a mapping


async def test_a_user(api: MovieServiceStub, world: World) -> None:
    answer = await api.GetUser(public.GetUserRequest(user_id=200, limit=2))
    assert (answer.rating_count, answer.rating_mean, answer.like_count) == (8, 4.0, 6)
    assert [(like.movie.movie_id, like.rating, like.rate_time.seconds) for like in answer.likes] == [
        (7, 4.5, 1_008),
        (6, 4.5, 1_007),
    ]
    genres = [(genre.genre, genre.count) for genre in answer.genres]
    assert genres == [("Drama", 4), ("Comedy", 3), ("Horror", 2), ("War", 1)]
    assert answer.bundle_id == BUNDLE
    nothing = await api.GetUser(public.GetUserRequest(user_id=300))
    assert nothing == public.GetUserResponse(bundle_id=BUNDLE)


async def test_a_user_of_data_without_times(api: MovieServiceStub, world: World) -> None:
    current = world.catalogues.get()
    ratings = current.ratings
    assert ratings is not None
    world.catalogues.catalogues = [
        replace(current, ratings=replace(ratings, times=np.zeros_like(ratings.times)))
    ]
    answer = await api.GetUser(public.GetUserRequest(user_id=100))
    assert [like.HasField("rate_time") for like in answer.likes] == [False, False]


async def test_an_unknown_user_is_not_found(api: MovieServiceStub, world: World) -> None:
    request = public.GetUserRequest(user_id=9)
    error = await refused(api.GetUser(request), StatusCode.NOT_FOUND, Reason.UNKNOWN_USER)
    assert "9" not in str(error.details())


async def test_users_can_be_turned_off(api: MovieServiceStub, world: World) -> None:
    world.catalogues.catalogues = [replace(world.catalogues.get(), ratings=None)]
    call = api.GetUser(public.GetUserRequest())
    await refused(call, StatusCode.UNIMPLEMENTED, Reason.METHOD_DISABLED)


async def test_a_bundle_that_arrives_while_stages_are_asked_keeps_its_own_time() -> None:
    """The status named one bundle, and when the next began to serve."""

    class Arrival(StubMonitor):
        @override
        async def status(self) -> StageStatus:
            world.catalogues.since += 1
            world.catalogues.catalogues = [catalogue(OTHER_BUNDLE)]
            return self.says

    world = World()
    before = (world.catalogues.since, BUNDLE)
    status = await world.gateway(monitors=[Arrival(world.monitors[0].says)]).status(None)
    assert (status.since, status.catalogues[0].bundle_id) == before


async def test_the_status(api: MovieServiceStub, world: World) -> None:
    world.catalogues.catalogues = [catalogue(), catalogue(OTHER_BUNDLE)]
    world.candidates.answer = candidates(3)
    world.ranking.failure = failing(StageName.RANKING)
    world.monitors[1].says = StageStatus(
        StageName.RANKING,
        serving=False,
        breaker_reason=FallbackReason.DEPENDENCY_TIMEOUT,
        bundle_id=OTHER_BUNDLE,
    )
    assert not (await api.GetStatus(public.GetStatusRequest())).HasField("personal_p95_seconds")
    await api.ListPersonalMovies(public.ListPersonalMoviesRequest(user_id=300))
    answer = await api.GetStatus(public.GetStatusRequest())
    assert answer.bundle == public.ServedBundle(
        bundle_id=BUNDLE,
        dataset_tag="small-1",
        protocol="user",
        judged_users=3,
        models=[
            public.ModelQuality(model="popularity", ndcg_at_10=0.125, recall_at_10=0.25, coverage_at_10=0.5),
            public.ModelQuality(
                model="two_stage",
                ndcg_at_10=0.25,
                ndcg_at_10_low=0.125,
                ndcg_at_10_high=0.375,
                recall_at_10=0.5,
                coverage_at_10=0.75,
            ),
        ],
        warnings=["Few users."],
    )
    assert answer.previous_bundle.bundle_id == OTHER_BUNDLE
    assert answer.serve_time.ToMilliseconds() == 1_000_500
    assert [(stage.stage, stage.serving, stage.breaker_open) for stage in answer.stages] == [
        ("candidate", True, False),
        ("ranking", False, True),
        ("similarity", True, False),
    ]
    assert answer.stages[1].breaker_reason == public.FALLBACK_REASON_DEPENDENCY_TIMEOUT
    assert answer.stages[1].bundle_id == OTHER_BUNDLE
    assert list(answer.models) == [public.ModelCount(model="als_only", count=1)]
    assert answer.degraded_count == 1
    assert 0 < answer.personal_p95_seconds <= LATENCY_BUCKETS[-1]


async def test_a_status_without_a_bundle(api: MovieServiceStub, world: World) -> None:
    world.catalogues.catalogues = []
    await refused(api.GetStatus(public.GetStatusRequest()), StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)


async def test_what_is_trending(api: MovieServiceStub, world: World) -> None:
    request = public.ListPopularMoviesRequest(order=public.POPULAR_ORDER_TRENDING, limit=3, offset=1)
    answer = await api.ListPopularMovies(request)
    assert [(item.movie.movie_id, item.score, item.rank) for item in answer.movies] == [
        (8, 2.0, 2),
        (2, 1.0, 3),  # ties as by popularity
        (6, 1.0, 4),
    ]
    assert (answer.model, {item.source for item in answer.movies}) == ("trending", {"trending"})
    assert (answer.degraded, answer.total_size) == (False, 8)


async def test_movies_to_ask_a_newcomer_about(api: MovieServiceStub, world: World) -> None:
    answer = await api.ListTasteMovies(public.ListTasteMoviesRequest())
    assert [movie.movie_id for movie in answer.movies] == [1, 6, 3]
    assert answer.movies[0] == (await api.GetMovie(public.GetMovieRequest(movie_id=1))).movie
    assert answer.bundle_id == BUNDLE
    one = await api.ListTasteMovies(public.ListTasteMoviesRequest(limit=1))
    assert [movie.movie_id for movie in one.movies] == [1]
