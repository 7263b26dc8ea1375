"""The tour against an API in memory: what it asks, and that it does not overlook a wrong answer."""

import io
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console

from deploy.demo.answers import Expectation, Question, faults
from deploy.demo.published import PublishedBundle
from deploy.demo.signals import StopRequest
from deploy.demo.tour import PAGE, UNKNOWN_USER, Tour
from deploy.demo.users import Watcher
from deploy.demo.view import WIDTH
from movierec.gateway.v1 import movie_service_pb2 as pb

URL = "http://127.0.0.1:8080"
WATCHERS = [Watcher(user, liked=((901, 5.0), (902, 4.5)), seen=frozenset({901, 902})) for user in (1, 4, 7)]


def movie(movie_id: int) -> pb.Movie:
    title = "Toy Story" if movie_id == 1 else f"The Adventures of Number {movie_id}, Part [b]Two[/b]"
    return pb.Movie(movie_id=movie_id, title=title, year=1995, genres=["Comedy", "Sci-Fi"])


PUBLISHED = PublishedBundle(
    "b1", {movie_id: movie(movie_id).title for movie_id in range(1, 1000)}, frozenset({"Sci-Fi"})
)


def page(source: str, explained: int = 0, size: int = PAGE) -> list[pb.RecommendedMovie]:
    reason = pb.FeatureContribution(feature="mean_rating_of_the_genre", value=0.25, contribution=-0.5)
    return [
        pb.RecommendedMovie(
            movie=movie(100 + rank),
            rank=rank,
            score=1 / rank,
            source=source,
            explanation=[reason] * explained,
        )
        for rank in range(1, size + 1)
    ]


MovieList = TypeVar(
    "MovieList", pb.ListPersonalMoviesResponse, pb.ListPopularMoviesResponse, pb.ListSimilarMoviesResponse
)


def filled(answer: MovieList, model: str, *, explained: int = 0, size: int = PAGE) -> MovieList:
    answer.movies.extend(page(model, explained, size))
    answer.model, answer.bundle_id, answer.recommendation_id = model, "b1", "r1"
    return answer


def right_answer(request: httpx.Request) -> Message:
    """What the gateway would answer."""
    match request.url.path.split("/")[3:]:
        case ["popular"]:
            size = int(request.url.params["limit"])
            return filled(pb.ListPopularMoviesResponse(), "popularity_fallback", size=size)
        case ["personal"] if request.url.params.get("user_id") == str(UNKNOWN_USER):
            answer = pb.ListPersonalMoviesResponse(fallback_reason=pb.FALLBACK_REASON_UNKNOWN_USER)
            return filled(answer, "popularity_fallback")
        case ["personal"]:
            answer = filled(pb.ListPersonalMoviesResponse(), "two_stage", explained=3)
            for item in answer.movies:
                item.movie.CopyFrom(movie(item.movie.movie_id + 100))  # the popular ones are of the history
                item.because_of.add(movie_id=901, title=movie(901).title, weight=0.5)
            return answer
        case [_, "similar"]:
            return filled(pb.ListSimilarMoviesResponse(), "als_cosine")
        case [movie_id]:
            return pb.GetMovieResponse(movie=movie(int(movie_id)), bundle_id="b1")
        case _:
            pytest.fail(f"nobody should ask for {request.url}")


@dataclass
class Api:
    """Answers as the gateway would, but for what a test spoils."""

    spoil: Callable[[Message], None] | None = None
    broken: str = "nothing"
    """Paths that end with this answer an error."""
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """The transport's handler."""
        self.asked.append(request)
        if request.url.path.endswith(self.broken):
            return httpx.Response(503, text='{"code":14}')
        answer = right_answer(request)
        if self.spoil is not None:
            self.spoil(answer)
        return httpx.Response(200, text=json_format.MessageToJson(answer))


def go(
    api: Api, stop_request: StopRequest | None = None, published: PublishedBundle = PUBLISHED
) -> tuple[list[str], str]:
    """What the tour found wrong, and what it printed."""
    console = Console(file=io.StringIO(), width=WIDTH)
    transport = httpx.MockTransport(api)
    with httpx.Client(transport=transport, base_url=URL) as client:
        wrong = Tour(client, console, published, WATCHERS, stop_request or StopRequest()).run()
    assert isinstance(console.file, io.StringIO)
    return wrong, console.file.getvalue()


def test_nothing_is_wrong() -> None:
    wrong, printed = go(Api())
    assert wrong == []
    assert "WRONG" not in printed
    for text in ("User 1,", "User 4,", "User 7,", "A new user", "similar to Toy Story", "Part [b]Two[/b]"):
        assert text in printed
    tables = [line for line in printed.splitlines() if not line.startswith(("$", "  -d"))]
    assert max(map(len, tables)) <= WIDTH


def test_what_lowers_a_movie_is_no_reason_for_it() -> None:
    def explain(answer: Message) -> None:
        if isinstance(answer, pb.ListPersonalMoviesResponse) and answer.movies[0].explanation:
            lowering, raising, _ = answer.movies[0].explanation
            lowering.MergeFrom(pb.FeatureContribution(contribution=-0.5, phrase="too old"))
            raising.MergeFrom(pb.FeatureContribution(contribution=0.25, value=1290, phrase="often rated"))

    _, printed = go(Api(explain))
    reasons = " ".join(line[65:].strip() for line in printed.splitlines())
    raised, _, lowered = reasons.partition("although")
    assert "+0.250 mean_rating_of_the_genre: often rated" in raised
    assert "too old" not in raised
    assert "-0.500 mean_rating_of_the_genre: too old" in lowered
    assert "1.29e+03" not in printed


def test_each_list_has_its_curl_line() -> None:
    api = Api()
    _, printed = go(api)
    curls = shlex.split(printed.replace("\\\n", " ").replace("\n", " ; "), posix=True).count("curl")
    lists = {"user 1", "user 4", "user 7", "new user", "similar", "popular", "unknown"}
    assert curls == len(lists)
    posted = [request for request in api.asked if request.method == "POST"]
    assert f"-d '{posted[0].content.decode()}'" in printed


def test_the_new_user_is_known_by_enough_movies_for_the_models() -> None:
    api = Api()
    wrong, printed = go(api, published=replace(PUBLISHED, least_history=11))
    assert wrong == []
    assert "A new user, known by 11 movies only" in printed
    (posted,) = (request for request in api.asked if request.method == "POST")
    assert len(json.loads(posted.content)["history"]) == 11


def spoil_model(answer: Message) -> None:
    if isinstance(answer, pb.ListPersonalMoviesResponse) and answer.model == "two_stage":
        answer.model = "als_only"
        answer.degraded = True
        answer.fallback_reason = pb.FALLBACK_REASON_DEPENDENCY_UNAVAILABLE


def test_a_degraded_answer_is_wrong() -> None:
    wrong, printed = go(Api(spoil_model))
    assert "user 1: model is 'als_only'" in wrong
    assert "user 1: degraded: FALLBACK_REASON_DEPENDENCY_UNAVAILABLE" in wrong
    assert "WRONG: model is 'als_only'" in printed
    assert not [fault for fault in wrong if fault.startswith("similar")]


def plant_bundle(answer: Message) -> None:
    if not isinstance(answer, pb.GetMovieResponse):
        answer.bundle_id = "b0"  # type: ignore[attr-defined]  # as every list has


def plant_movie(answer: Message) -> None:
    if isinstance(answer, pb.ListPersonalMoviesResponse) and answer.model == "two_stage":
        answer.movies[0].movie.title = "The same id in another data set"
        answer.movies[1].movie.movie_id = 10_001
        answer.movies[2].because_of[0].movie_id = 10_002


def plant_entry(answer: Message) -> None:
    if isinstance(answer, pb.GetMovieResponse):
        answer.bundle_id = "b0"


WATCHED = ("user 1", "user 4", "user 7")
ASKED_ABOUT = "new user: /api/movies/popular?limit=5&filter.genres=Sci-Fi"
OTHER_BUNDLE = "bundle_id is 'b0', that of the published bundle 'b1'"
OTHER_MOVIES = "movies that the published bundle does not have: [201, 10001, 10002]"


@pytest.mark.parametrize(
    ("plant", "places", "fault"),
    [
        (
            plant_bundle,
            [*WATCHED, ASKED_ABOUT, "similar movies", "popular movies", "unknown user"],
            OTHER_BUNDLE,
        ),
        (plant_movie, [*WATCHED, "new user"], OTHER_MOVIES),
        (
            plant_entry,
            [
                *(f"{user}: /api/movies/901" for user in WATCHED),
                *("new user: /api/movies/101", "similar movies: /api/movies/1"),
            ],
            OTHER_BUNDLE,
        ),
    ],
    ids=["lists", "movies of lists", "movies that are looked up"],
)
def test_answers_of_another_bundle_are_wrong(
    plant: Callable[[Message], None], places: list[str], fault: str
) -> None:
    wrong, printed = go(Api(plant))
    assert wrong == [f"{place}: {fault}" for place in places]
    assert fault in " ".join(printed.split())


def test_an_error_is_wrong_and_the_tour_goes_on() -> None:
    wrong, printed = go(Api(broken="similar"))
    assert wrong == ['similar movies: status 503: {"code":14}']
    assert "A user nobody has heard of" in printed


def test_the_tour_stops_when_asked() -> None:
    stop_request = StopRequest()
    stop_request.receive(2)
    api = Api()
    assert go(api, stop_request) == ([], "")
    assert api.asked == []


def right() -> pb.ListPersonalMoviesResponse:
    return filled(pb.ListPersonalMoviesResponse(), "two_stage", explained=1)


EXPECTED = Expectation(size=PAGE, models=frozenset({"two_stage"}), absent=frozenset({1}), explained=1)


def test_a_right_answer() -> None:
    assert faults(right(), EXPECTED, PUBLISHED) == []


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("model", "other", "model is 'other'"),
        ("bundle_id", "", "bundle_id is '', that of the published bundle 'b1'"),
        ("recommendation_id", "", "recommendation_id is empty"),
        ("degraded", True, "degraded: FALLBACK_REASON_UNSPECIFIED"),
        ("fallback_reason", 4, "fallback_reason is FALLBACK_REASON_FILTERED_OUT"),
    ],
)
def test_wrong_fields(name: str, value: object, fault: str) -> None:
    answer = right()
    setattr(answer, name, value)
    assert faults(answer, EXPECTED, PUBLISHED) == [fault]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda movies: movies[0].movie.CopyFrom(movie(1)), "movies that must not be there: [1]"),
        (lambda movies: movies[0].movie.CopyFrom(movies[1].movie), "a movie is there twice"),
        (lambda movies: movies.pop(), "4 movies instead of 5"),
        (lambda movies: setattr(movies[2], "rank", 7), "ranks have gaps"),
        (lambda movies: setattr(movies[2], "score", float("nan")), "a score is not finite"),
        (lambda movies: setattr(movies[0].explanation[0], "feature", ""), "a reason is not readable"),
        (lambda movies: movies[0].explanation.pop(), "a movie does not carry 1 reasons"),
    ],
)
def test_wrong_movies(spoil: Callable[[Any], object], fault: str) -> None:
    answer = right()
    spoil(answer.movies)
    assert faults(answer, EXPECTED, PUBLISHED) == [fault]


def test_curl() -> None:
    get = Question("/api/movies/personal", (("user_id", 1), ("filter.genres", "Sci-Fi & more")))
    assert (
        shlex.split(get.curl(URL))[-1] == f"{URL}/api/movies/personal?user_id=1&filter.genres=Sci-Fi+%26+more"
    )
    post = Question("/api/movies/personal", body={"limit": 5})
    assert shlex.split(post.curl(URL))[-2:] == ["-d", '{"limit":5}']
