"""What a client gets of the running system, by REST and by gRPC, against what the bundle says."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from deploy.demo import answers
from deploy.demo.answers import Expectation, MovieList, faults
from deploy.demo.processes import Supervisor
from deploy.demo.published import PublishedBundle
from deploy.demo.readiness import StartError, wait_until_ready
from deploy.demo.signals import StopRequest
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.filters import MovieFilter
from serving.ratings import NO_TIME, RatedMovies
from serving.rpc.channels import open_channel
from tests.e2e.oracle import Oracle, Scored, Wish
from tests.e2e.rest import POPULAR, Rest
from tests.e2e.system import System

pytestmark = pytest.mark.e2e

USER = 1
USERS = (1, 17, 300, 600)
UNKNOWN_USER = 999_999_999
UNKNOWN_MOVIE = 2**31 - 1
FULL_PAGE = 20
SECONDS = 60.0  # ample: no test is decided by it


def scored(answer: MovieList) -> Scored:
    return [(item.movie.movie_id, item.score) for item in answer.movies]


def ids(answer: MovieList) -> list[int]:
    return [item.movie.movie_id for item in answer.movies]


def unnamed(answer: pb.ListPersonalMoviesResponse) -> pb.ListPersonalMoviesResponse:
    """The answer without the id that makes it unlike every other."""
    answer.ClearField("recommendation_id")
    return answer


# Personal


@pytest.mark.parametrize("user", USERS)
def test_a_known_user_gets_what_the_bundle_says(
    rest: Rest, oracle: Oracle, published: PublishedBundle, user: int
) -> None:
    answer = rest.personal(("user_id", user), ("limit", FULL_PAGE))
    expected = Expectation(size=FULL_PAGE, models=answers.PERSONAL, absent=oracle.seen(user))
    assert faults(answer, expected, published) == []
    assert answer.bundle_id == oracle.bundle_id
    assert {item.source for item in answer.movies} == {"two_stage"}
    assert scored(answer) == oracle.two_stage(Wish(user), FULL_PAGE)


async def test_the_same_by_grpc_with_a_generated_client(system: System, rest: Rest) -> None:
    async with open_channel(f"127.0.0.1:{system.plan.envoy_port.number}") as channel:
        by_grpc = await MovieServiceStub(channel).ListPersonalMovies(
            pb.ListPersonalMoviesRequest(user_id=USER, limit=FULL_PAGE, explain_features=3), timeout=SECONDS
        )
    by_rest = rest.personal(("user_id", USER), ("limit", FULL_PAGE), ("explain_features", 3))
    assert unnamed(by_grpc) == unnamed(by_rest)


@pytest.mark.row(14)
def test_an_unknown_user_gets_what_is_popular(
    system: System,
    rest: Rest,
    oracle: Oracle,
    published: PublishedBundle,
    record_property: Callable[[str, object], None],
) -> None:
    before = system.counted("gateway", "fallbacks_total", reason="UNKNOWN_USER")
    answer = rest.personal(("user_id", UNKNOWN_USER), ("limit", FULL_PAGE))
    expected = Expectation(size=FULL_PAGE, models=answers.POPULAR, reason=pb.FALLBACK_REASON_UNKNOWN_USER)
    assert faults(answer, expected, published) == []
    assert scored(answer) == oracle.popular()[:FULL_PAGE]
    assert system.counted("gateway", "fallbacks_total", reason="UNKNOWN_USER") == before + 1
    record_property("counter", "fallbacks_total + 1")


@pytest.mark.row(14)
def test_a_history_makes_a_user_known(rest: Rest, oracle: Oracle, published: PublishedBundle) -> None:
    movies = [movie for movie, _ in oracle.popular()[:5]]

    def ask_and_check(ratings: Sequence[float]) -> Scored:
        history = [{"movie_id": m, "rating": stars} for m, stars in zip(movies, ratings, strict=True)]
        answer = rest.personal_by_post({"history": history, "limit": FULL_PAGE})
        expected = Expectation(size=FULL_PAGE, models=answers.PERSONAL, absent=frozenset(movies))
        assert faults(answer, expected, published) == []
        rated = RatedMovies(tuple(movies), tuple(ratings), (NO_TIME,) * len(movies))
        assert scored(answer) == oracle.two_stage(Wish(history=rated), FULL_PAGE)
        return scored(answer)

    assert ask_and_check([5, 5, 5, 5, 5]) != ask_and_check([5, 5, 0.5, 5, 5])


@pytest.mark.parametrize(
    ("genre", "max_year", "is_full"),
    [("Documentary", 1990, True), ("drama", 1990, True), ("Fantasy", 1990, False)],
)
def test_a_filter_holds_and_the_list_is_as_full_as_the_catalogue_allows(
    rest: Rest, oracle: Oracle, genre: str, max_year: int, *, is_full: bool
) -> None:
    query = (("filter.genres", genre), ("filter.max_year", max_year))
    answer = rest.personal(("user_id", USER), ("limit", FULL_PAGE), *query)
    movie_filter = MovieFilter(genres=(genre,), max_year=max_year)
    available = oracle.matching(movie_filter) - oracle.seen(USER)
    assert set(ids(answer)) <= available
    assert len(set(ids(answer))) == len(ids(answer)) == min(FULL_PAGE, len(available))
    assert (len(available) >= FULL_PAGE) == is_full
    assert not answer.degraded
    assert answer.fallback_reason == (
        pb.FALLBACK_REASON_UNSPECIFIED if is_full else pb.FALLBACK_REASON_FILTERED_OUT
    )
    for item in answer.movies:
        assert genre.casefold() in {one.casefold() for one in item.movie.genres}
        assert item.movie.HasField("year")
        assert item.movie.year <= max_year
    if available - oracle.cold:
        ranked = [
            one for one, item in zip(scored(answer), answer.movies, strict=True) if item.source == "two_stage"
        ]
        assert ranked == oracle.two_stage(Wish(USER, movie_filter), FULL_PAGE)
        assert answer.model == "two_stage"


def test_what_a_request_asks_for_reaches_the_stages(rest: Rest, oracle: Oracle) -> None:
    plain = oracle.two_stage(Wish(USER), 100)
    assert [movie for movie, _ in plain] != [movie for movie, _ in oracle.als(Wish(USER))[:100]]  # ranked
    best = [movie for movie, _ in plain[:5]]
    for wish, fields in (
        (Wish(USER, excluded=tuple(best)), {"exclude_movie_ids": [*best, best[0], UNKNOWN_MOVIE]}),
        (Wish(USER, include_seen=True), {"include_seen": True}),
        (
            Wish(USER, history=RatedMovies((best[0],), (5.0,), (NO_TIME,))),
            {"history": [{"movie_id": best[0]}]},
        ),
        (Wish(USER, diversity=0.5), {"diversity": 0.5}),
    ):
        answer = rest.personal_by_post({"user_id": USER, "limit": 100, **fields})
        assert scored(answer) == oracle.two_stage(wish, 100) != plain
        assert {item.source for item in answer.movies} == {"two_stage"}


@pytest.mark.row(21)
def test_a_limit_of_a_million(rest: Rest, oracle: Oracle) -> None:
    assert scored(rest.personal(("user_id", USER), ("limit", 1_000_000))) == oracle.two_stage(Wish(USER), 100)


def test_contributions_add_up_to_the_score(rest: Rest) -> None:
    answer = rest.personal(("user_id", USER), ("limit", 100), ("explain_features", 100))
    assert (answer.model, len(answer.movies)) == ("two_stage", 100)
    assert answer.HasField("base_value")
    for item in answer.movies:
        sizes = [abs(reason.contribution) for reason in item.explanation]
        assert sizes == sorted(sizes, reverse=True)
        total = answer.base_value + math.fsum(reason.contribution for reason in item.explanation)
        assert total == pytest.approx(item.score, rel=0, abs=1e-9)


# Popular and similar movies


@pytest.mark.row(24)
def test_a_page_past_the_end_is_empty(rest: Rest, oracle: Oracle) -> None:
    page = rest.popular(("offset", 100_000), ("filter.genres", "War"))
    assert list(page.movies) == []
    assert page.total_size == len(oracle.matching(MovieFilter(genres=("War",))))
    assert rest.failure(POPULAR, ("offset", 100_001)).http_status == 400


def test_similar_movies(rest: Rest, oracle: Oracle, published: PublishedBundle) -> None:
    movie = oracle.popular()[0][0]
    answer = rest.similar(movie, ("limit", FULL_PAGE))
    expected = Expectation(size=FULL_PAGE, models=answers.SIMILAR, absent=frozenset({movie}))
    assert faults(answer, expected, published) == []
    assert scored(answer) == oracle.similar(movie, FULL_PAGE)


@pytest.mark.row(16)
def test_a_movie_that_nobody_rated_is_compared_by_genre(
    rest: Rest, oracle: Oracle, published: PublishedBundle
) -> None:
    movie = min(oracle.cold)
    answer = rest.similar(movie, ("limit", FULL_PAGE))
    expected = Expectation(
        size=FULL_PAGE,
        models=frozenset({"genre_jaccard"}),
        reason=pb.FALLBACK_REASON_COLD_MOVIE,
        absent=frozenset({movie}),
    )
    assert faults(answer, expected, published) == []


def test_every_server_counts(system: System, rest: Rest, oracle: Oracle) -> None:
    counters: list[tuple[str, str, dict[str, str]]] = [
        ("gateway", "requests_total", {"method": "ListPersonalMovies", "code": "OK"}),
        ("gateway", "requests_total", {"method": "ListSimilarMovies", "code": "OK"}),
        ("gateway", "answers_total", {"method": "ListPersonalMovies", "model": "two_stage"}),
        ("gateway", "answers_total", {"method": "ListSimilarMovies", "model": "als_cosine"}),
        ("candidate", "requests_total", {"method": "GenerateCandidates", "code": "OK"}),
        ("ranking", "requests_total", {"method": "RankMovies", "code": "OK"}),
        ("similarity", "requests_total", {"method": "FindSimilarMovies", "code": "OK"}),
    ]
    before = [system.counted(server, name, **labels) for server, name, labels in counters]
    rest.personal(("user_id", USER))
    rest.similar(oracle.popular()[0][0])
    after = [system.counted(server, name, **labels) for server, name, labels in counters]
    assert after == [value + 1 for value in before]


# What the demo makes of it


def test_the_demo_waits_until_all_serve_the_published_bundle(
    system: System, published: PublishedBundle, tmp_path: Path
) -> None:
    stop_request = StopRequest()
    supervisor = Supervisor(tmp_path, stop_request)
    wait_until_ready(system.plan, supervisor, stop_request, published.bundle_id)
    with pytest.raises(StartError, match=r"bundle other in time: candidate, ranking, similarity, gateway$"):
        wait_until_ready(system.plan, supervisor, stop_request, "other", within_seconds=0)
