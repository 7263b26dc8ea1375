"""What holds of every answer of the running system, whatever is asked: four servers and the edge."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo.answers import MovieList
from movierec.gateway.v1 import movie_service_pb2 as pb
from serving.filters import UNRESTRICTED, MovieFilter
from tests.e2e.oracle import Oracle
from tests.e2e.rest import Rest

pytestmark = pytest.mark.e2e

USERS = (1, 17, 300, 600, 999_999_999)
"""The last is unknown."""
UNKNOWN_MOVIE = 2**31 - 1
GENRES = ("drama", "COMEDY", "War", "Film-Noir", "Documentary")
STARS = [half / 2 for half in range(1, 11)]

thorough = settings(max_examples=80, derandomize=True)
brief = settings(max_examples=20, derandomize=True)

limits = st.sampled_from([0, 1, 7, 20, 100, 1_000])
places = st.integers(0, 10_000)
"""Of movies in the catalogue, modulo its size: lists of them shrink well."""
years = st.none() | st.integers(1930, 2016)


@st.composite
def filters(draw: st.DrawFn) -> MovieFilter:
    if draw(st.booleans()):
        return UNRESTRICTED
    named = st.lists(st.sampled_from(GENRES), unique=True, max_size=2).map(tuple)
    earliest, latest = draw(years), draw(years)
    if earliest is not None and latest is not None:
        earliest, latest = min(earliest, latest), max(earliest, latest)
    return MovieFilter(genres=draw(named), exclude_genres=draw(named), min_year=earliest, max_year=latest)


def body_of(movie_filter: MovieFilter) -> dict[str, Any]:
    return {name: value for name, value in vars(movie_filter).items() if value not in {None, ()}}


def query_of(movie_filter: MovieFilter) -> list[tuple[str, str | int]]:
    return [
        (f"filter.{name}", one)
        for name, value in body_of(movie_filter).items()
        for one in (value if isinstance(value, tuple) else (value,))
    ]


@dataclass(frozen=True)
class Personal:
    """A request for a personal list; movies are places in the catalogue."""

    user_id: int
    limit: int
    movie_filter: MovieFilter
    excluded: Sequence[int]
    include_seen: bool
    history: dict[int, float]
    diversity: float
    more: dict[str, int] = field(default_factory=dict)

    def body(self, oracle: Oracle) -> dict[str, Any]:
        """As it is posted."""
        return {
            "user_id": self.user_id,
            "limit": self.limit,
            "filter": body_of(self.movie_filter),
            "exclude_movie_ids": [UNKNOWN_MOVIE, *movies(oracle, self.excluded)],
            "include_seen": self.include_seen,
            "history": [{"movie_id": movie, "rating": stars} for movie, stars in self.rated(oracle).items()],
            "diversity": self.diversity,
            **self.more,
        }

    def rated(self, oracle: Oracle) -> dict[int, float]:
        """Stars by movie id."""
        return dict(zip(movies(oracle, self.history), self.history.values(), strict=True))

    def available(self, oracle: Oracle) -> frozenset[int]:
        """What may be in the list."""
        left_out = set(movies(oracle, self.excluded))
        if not self.include_seen:
            left_out |= self.rated(oracle).keys() | seen(oracle, self.user_id)
        return oracle.matching(self.movie_filter) - left_out


@st.composite
def requests(draw: st.DrawFn, *, more: dict[str, int] | None = None) -> Personal:
    user = draw(st.sampled_from((*USERS, 0)))
    return Personal(
        user_id=user,
        limit=draw(limits),
        movie_filter=draw(filters()),
        excluded=draw(st.lists(places, max_size=8)),
        include_seen=draw(st.booleans()),
        history=draw(st.dictionaries(places, st.sampled_from(STARS), min_size=not user, max_size=6)),
        diversity=draw(st.sampled_from([0, 0, 0.25, 1])),
        more=more or {},
    )


def movies(oracle: Oracle, of: Sequence[int] | dict[int, float]) -> list[int]:
    everything = oracle.movie_ids
    return [everything[place % len(everything)] for place in of]


def seen(oracle: Oracle, user_id: int) -> frozenset[int]:
    return oracle.seen(user_id) if oracle.ratings.users.row(user_id) >= 0 else frozenset()


def page_size(limit: int) -> int:
    return min(limit or 10, 100)


def ids(answer: MovieList) -> list[int]:
    return [item.movie.movie_id for item in answer.movies]


def content(answer: pb.ListPersonalMoviesResponse) -> bytes:
    """Everything but the id that makes it unlike every other."""
    answer.ClearField("recommendation_id")
    return answer.SerializeToString(deterministic=True)


def passes(movie: pb.Movie, movie_filter: MovieFilter) -> bool:
    """What a filter means, written out a second time and of what the answer says."""
    named = {genre.casefold() for genre in movie.genres}
    wanted, unwanted = (
        {genre.casefold() for genre in some} for some in (movie_filter.genres, movie_filter.exclude_genres)
    )
    bounds = (movie_filter.min_year or -math.inf, movie_filter.max_year or math.inf)
    in_time = (
        bounds[0] <= movie.year <= bounds[1] if movie.HasField("year") else bounds == (-math.inf, math.inf)
    )
    return (not wanted or bool(named & wanted)) and not named & unwanted and in_time


def check_items(
    answer: MovieList, movie_filter: MovieFilter, *, in_order: bool = True, first: int = 1
) -> None:
    """What holds of every list."""
    assert len(set(ids(answer))) == len(answer.movies)
    assert [item.rank for item in answer.movies] == list(range(first, first + len(answer.movies)))
    assert all(math.isfinite(item.score) for item in answer.movies)
    assert all(passes(item.movie, movie_filter) for item in answer.movies)
    sources = [item.source for item in answer.movies]
    switches = sum(one != other for one, other in pairwise(sources))
    assert len(set(sources)) == min(len(sources), switches + 1)  # what fills comes in one piece
    for before, after in pairwise(answer.movies):
        if before.source == after.source and (in_order or before.source != "two_stage"):
            assert before.score >= after.score
    if sources:
        assert answer.model == sources[0]
    assert not answer.degraded


@pytest.mark.row(20)
@thorough
@given(request=requests())
def test_personal(rest: Rest, oracle: Oracle, request: Personal) -> None:
    answer = rest.personal_by_post(request.body(oracle))
    check_items(answer, request.movie_filter, in_order=request.diversity == 0)
    available = request.available(oracle)
    assert set(ids(answer)) <= available
    assert len(answer.movies) == min(page_size(request.limit), len(available))
    is_full = len(answer.movies) == page_size(request.limit)
    is_ranked = {item.source for item in answer.movies} == {"two_stage"}
    assert (answer.fallback_reason == pb.FALLBACK_REASON_UNSPECIFIED) == (is_full and is_ranked)


@brief
@given(some=st.lists(requests(more={"explain_features": 2, "because_of": 1}), min_size=2, max_size=16))
def test_the_same_in_any_company(rest: Rest, oracle: Oracle, some: list[Personal]) -> None:
    bodies = [request.body(oracle) for request in some]
    alone = [content(rest.personal_by_post(body)) for body in bodies]
    with ThreadPoolExecutor(len(bodies)) as callers:
        at_once = [content(answer) for answer in callers.map(rest.personal_by_post, bodies)]
    assert at_once == alone
    assert [content(answer) for answer in rest.batch(*bodies)] == alone


@pytest.mark.row(24)
@brief
@given(
    sizes=st.lists(st.integers(1, 100), min_size=1),
    movie_filter=filters(),
    user=st.sampled_from((None, *USERS)),
)
def test_pages_of_popular_movies_join(
    rest: Rest, oracle: Oracle, sizes: list[int], movie_filter: MovieFilter, user: int | None
) -> None:
    left_out = seen(oracle, user) if user else frozenset()
    matching = oracle.matching(movie_filter) - left_out
    expected = [one for one in oracle.popular() if one[0] in matching]
    query = query_of(movie_filter) + ([("exclude_seen_by_user_id", user)] if user else [])
    joined: list[tuple[int, float]] = []
    for size in sizes:
        page = rest.popular(("limit", size), ("offset", len(joined)), *query)
        check_items(page, movie_filter, first=len(joined) + 1)
        assert page.total_size == len(expected)
        joined += [(item.movie.movie_id, item.score) for item in page.movies]
    assert joined == expected[: sum(sizes)]


@thorough
@given(place=places, limit=limits, movie_filter=filters(), user=st.sampled_from((None, *USERS)))
def test_similar(
    rest: Rest, oracle: Oracle, *, place: int, limit: int, movie_filter: MovieFilter, user: int | None
) -> None:
    (movie,) = movies(oracle, [place])
    query = query_of(movie_filter) + ([("exclude_seen_by_user_id", user)] if user else [])
    answer = rest.similar(movie, ("limit", limit), *query)
    check_items(answer, movie_filter)
    left_out = {movie} | (seen(oracle, user) if user else frozenset())
    available = oracle.matching(movie_filter) - left_out
    own = {genre.casefold() for genre in rest.movie(movie).movie.genres}
    alike = {i for i in available if own & genres_of(oracle, i)}
    if movie not in oracle.cold:
        alike |= available - oracle.cold
    assert set(ids(answer)) <= alike
    assert len(answer.movies) == min(page_size(limit), len(alike))


def genres_of(oracle: Oracle, movie_id: int) -> set[str]:
    catalogue = oracle.catalogue
    return {genre.casefold() for genre in catalogue.movie(catalogue.row(movie_id)).genres}


@brief
@given(
    history=st.dictionaries(places, st.sampled_from([4.0, 4.5, 5.0]), min_size=2, max_size=20),
    changed=st.integers(0, 19),
    user=st.sampled_from((0, 1, 17)),
)
def test_one_changed_rating_changes_the_list(
    rest: Rest, oracle: Oracle, history: dict[int, float], changed: int, user: int
) -> None:
    warm = [movie for movie in oracle.movie_ids if movie not in oracle.cold]
    likes = {warm[place % len(warm)]: stars for place, stars in history.items()}
    disliked = list(likes)[changed % len(likes)]

    def listed(ratings: dict[int, float]) -> list[tuple[int, float]]:
        rated = [{"movie_id": movie, "rating": stars} for movie, stars in ratings.items()]
        answer = rest.personal_by_post({"user_id": user, "history": rated, "limit": 100})
        return [(item.movie.movie_id, item.score) for item in answer.movies]

    assert listed(likes) != listed({**likes, disliked: 0.5})
