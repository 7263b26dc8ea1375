"""What holds of every answer, whatever is asked and whatever the stages do."""

import asyncio
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fallback import FallbackPolicy
from gateway.lists.list_builder import ListAnswer
from gateway.requests import PersonalRequest, PopularRequest, SimilarRequest
from serving.errors import NotFoundError, UnavailableError
from serving.filters import MovieFilter
from serving.ratings import NO_TIME, RatedMovies
from serving.stages.candidate import CandidateList, UserVector
from serving.stages.similarity import SimilarityMethod, SimilarMovies
from serving.stages.stage import FallbackReason, StageError, StageName
from tests.gateway.small_world import (
    BUNDLE,
    GENRES,
    OTHER_BUNDLE,
    POPULARITY,
    SEEN,
    YEARS,
    World,
    catalogue,
    failing,
    ids,
)

CATALOGUE = range(1, 9)
movie_ids = st.integers(1, 12)  # 9 to 12 are in no catalogue
genres = st.lists(st.sampled_from(["Comedy", "drama", "WAR", "Horror"]), unique=True)
years = st.none() | st.integers(1975, 2015)
users = st.sampled_from([*SEEN, 12345])


@st.composite
def filters(draw: st.DrawFn) -> MovieFilter:
    earliest, latest = draw(years), draw(years)
    if earliest is not None and latest is not None:
        earliest, latest = min(earliest, latest), max(earliest, latest)
    if draw(st.booleans()):
        return MovieFilter()
    return MovieFilter(
        genres=tuple(draw(genres)), exclude_genres=tuple(draw(genres)), min_year=earliest, max_year=latest
    )


@st.composite
def histories(draw: st.DrawFn) -> RatedMovies:
    rated = tuple(draw(st.lists(movie_ids, unique=True, max_size=4)))
    return RatedMovies(rated, (4.0,) * len(rated), (NO_TIME,) * len(rated))


@st.composite
def personal_requests(draw: st.DrawFn) -> PersonalRequest:
    return PersonalRequest(
        user_id=draw(users),
        limit=draw(st.integers(1, 12)),
        movie_filter=draw(filters()),
        exclude_movie_ids=np.array(draw(st.lists(movie_ids, max_size=4)), np.int64),
        include_seen=draw(st.booleans()),
        history=draw(histories()),
    )


def scores(draw: st.DrawFn, n: int) -> list[float]:
    values = st.floats(-10, 10, width=32)
    return sorted(draw(st.lists(values, min_size=n, max_size=n)), reverse=True)


NOT_HELD = "bundle-3"
bundles = st.sampled_from([BUNDLE, OTHER_BUNDLE, NOT_HELD])
failures = st.sampled_from(FallbackReason).map(lambda reason: failing(StageName.CANDIDATE, reason))


@st.composite
def candidate_answers(draw: st.DrawFn) -> CandidateList | StageError:
    """Anything that passes the client: not what was excluded, not even of this bundle."""
    if draw(st.integers(0, 5)) == 0:
        return draw(failures)
    found = draw(st.lists(movie_ids, unique=True))
    vector = draw(st.sampled_from(UserVector))
    found = [] if vector is UserVector.NONE else found
    found_scores = np.array(scores(draw, len(found)), np.float32)
    return CandidateList(np.array(found, np.int64), found_scores, vector, draw(bundles))


@st.composite
def similar_answers(draw: st.DrawFn) -> SimilarMovies | StageError:
    if draw(st.integers(0, 5)) == 0:
        return draw(failures)
    found = draw(st.lists(movie_ids, unique=True))
    return SimilarMovies(
        np.array(found, np.int64),
        np.array(scores(draw, len(found)), np.float32),
        draw(st.sampled_from(SimilarityMethod)),
        draw(bundles),
    )


def matches(movie_id: int, movie_filter: MovieFilter) -> bool:
    """What a filter means, written out a second time."""
    names = {name.casefold() for name in GENRES[movie_id - 1]} - {"(no genres listed)"}
    year = YEARS[movie_id - 1] or None
    return (
        (not movie_filter.genres or bool(names & {g.casefold() for g in movie_filter.genres}))
        and not names & {g.casefold() for g in movie_filter.exclude_genres}
        and (movie_filter.min_year is None or (year is not None and year >= movie_filter.min_year))
        and (movie_filter.max_year is None or (year is not None and year <= movie_filter.max_year))
    )


def allowed(movie_filter: MovieFilter, *left_out: Sequence[int]) -> set[int]:
    """The movies that a list may hold."""
    out = {movie_id for some in left_out for movie_id in some}
    return {movie_id for movie_id in CATALOGUE if movie_id not in out and matches(movie_id, movie_filter)}


def check_items(answer: ListAnswer) -> None:
    """What holds of every list."""
    shown = ids(answer)
    assert len(set(shown)) == len(shown)
    assert all(math.isfinite(item.score) for item in answer.items)
    for before, after in pairwise(answer.items):
        if before.source == after.source:
            assert before.score >= after.score
    runs = [
        item.source
        for place, item in enumerate(answer.items)
        if place == 0 or (answer.items[place - 1].source != item.source)
    ]
    assert len(set(runs)) == len(runs)
    if answer.items:
        assert answer.model == answer.items[0].source
    assert answer.degraded is (answer.failure is not None)
    assert answer.bundle_id in {BUNDLE, OTHER_BUNDLE, NOT_HELD}
    if answer.bundle_id == NOT_HELD and answer.items:
        assert (answer.model, answer.degraded) in {("als_only", True), ("popularity_fallback", False)}


def world_of_two() -> World:
    """A gateway that holds two bundles."""
    return World(catalogue(), catalogue(OTHER_BUNDLE))


@given(personal_requests(), candidate_answers(), st.none() | failures, st.sets(movie_ids))
def test_personal(
    request: PersonalRequest,
    found: CandidateList | StageError,
    ranking_failure: StageError | None,
    unknown: set[int],
) -> None:
    world = world_of_two()
    world.candidates.answer = found
    world.ranking.failure = ranking_failure
    world.ranking.unknown = tuple(unknown)
    answer = asyncio.run(world.api.personal(request, None))
    check_items(answer)
    seen = () if request.include_seen else (*SEEN.get(request.user_id, ()), *request.history.movie_ids)
    may_be_shown = allowed(request.movie_filter, request.exclude_movie_ids.tolist(), seen)
    assert set(ids(answer)) <= may_be_shown
    available = len(may_be_shown)
    dropped = 0
    if world.ranking.queries and ranking_failure is None:  # what ranking does not know is not shown
        dropped = len(unknown & set(world.ranking.queries[0].movie_ids.tolist()))
    assert len(answer.items) == min(request.limit, available - dropped)
    if len(answer.items) < request.limit or answer.model != "two_stage":
        assert answer.reason is not None


@given(personal_requests(), candidate_answers())
def test_personal_that_denies_fallbacks(request: PersonalRequest, found: CandidateList | StageError) -> None:
    world = world_of_two()
    world.candidates.answer = found
    denying = PersonalRequest(**{**vars(request), "fallback_policy": FallbackPolicy.DENY})
    error: type[Exception] | None = None
    if isinstance(found, StageError) or found.bundle_id == NOT_HELD:
        error = UnavailableError
    elif found.user_vector is UserVector.NONE:
        error = NotFoundError
    if error is not None:
        with pytest.raises(error):
            asyncio.run(world.api.personal(denying, None))
        return
    answer = asyncio.run(world.api.personal(denying, None))
    check_items(answer)
    assert {item.source for item in answer.items} <= {"two_stage"}
    assert (answer.model, answer.degraded) == ("two_stage", False)


@given(st.sampled_from(CATALOGUE), st.integers(1, 12), filters(), st.none() | users, similar_answers())
def test_similar(
    movie_id: int,
    limit: int,
    movie_filter: MovieFilter,
    user_id: int | None,
    found: SimilarMovies | StageError,
) -> None:
    world = world_of_two()
    world.similarity.answer = found
    request = SimilarRequest(movie_id, limit, movie_filter, user_id)
    answer = asyncio.run(world.api.similar(request, None))
    check_items(answer)
    may_be_shown = allowed(movie_filter, (movie_id,), SEEN.get(user_id or 0, ()))
    assert set(ids(answer)) <= may_be_shown
    named = set(GENRES[movie_id - 1]) - {"(no genres listed)"}
    alike = {other for other in may_be_shown if named & set(GENRES[other - 1])}
    answered = None if isinstance(found, StageError) or found.bundle_id == NOT_HELD else found
    if answered is not None and answered.method is SimilarityMethod.ALS_COSINE:
        alike |= set(answered.movie_ids.tolist()) & may_be_shown
        assert len(answer.items) == min(limit, len(alike))
    elif answered is None:
        assert len(answer.items) == min(limit, len(alike))


@given(st.integers(1, 12), st.integers(0, 12) | st.just(100_000), filters(), st.none() | users)
def test_popular(limit: int, offset: int, movie_filter: MovieFilter, user_id: int | None) -> None:
    request = PopularRequest(limit, offset, movie_filter, user_id)
    answer = asyncio.run(World().api.popular(request, None))
    check_items(answer)
    matching = sorted(
        allowed(movie_filter, SEEN.get(user_id or 0, ())), key=lambda i: (-POPULARITY[i - 1], i)
    )
    assert answer.total_size == len(matching)
    assert ids(answer) == matching[offset : offset + limit]
    assert (answer.first_rank, answer.reason) == (offset + 1, None)
