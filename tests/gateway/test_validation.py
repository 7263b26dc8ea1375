"""That each request is checked before it is decoded, the rules of batches, and defaults.

The values of every field are in `tests/serving/test_checks.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from gateway.codec import (
    decode_batch,
    decode_movie,
    decode_personal,
    decode_popular,
    decode_search,
    decode_similar,
    decode_taste,
    decode_user,
    decode_why,
)
from gateway.fallback import FallbackPolicy
from gateway.validation import page_size
from movierec.gateway.v1 import movie_service_pb2 as public
from serving.errors import InvalidArgumentError, Reason
from serving.limits import LIMITS, STAGE_LIMITS

DECODE: Mapping[type[Message], Callable[[Any], object]] = {
    public.GetMovieRequest: decode_movie,
    public.ListPopularMoviesRequest: decode_popular,
    public.ListPersonalMoviesRequest: decode_personal,
    public.ListSimilarMoviesRequest: decode_similar,
    public.SearchMoviesRequest: decode_search,
    public.GetUserRequest: decode_user,
    public.ListTasteMoviesRequest: decode_taste,
    public.WhyMovieRequest: decode_why,
    public.BatchListPersonalMoviesRequest: decode_batch,
}
MAX_INT32 = 2**31 - 1


def popular(**fields: Any) -> public.ListPopularMoviesRequest:
    return public.ListPopularMoviesRequest(**fields)


def personal(**fields: Any) -> public.ListPersonalMoviesRequest:
    return public.ListPersonalMoviesRequest(**({"user_id": 1} | fields))


def similar(**fields: Any) -> public.ListSimilarMoviesRequest:
    return public.ListSimilarMoviesRequest(**({"movie_id": 1} | fields))


def why(**fields: Any) -> public.WhyMovieRequest:
    return public.WhyMovieRequest(**({"movie_id": 1, "user_id": 1} | fields))


def batch(*requests: public.ListPersonalMoviesRequest) -> public.BatchListPersonalMoviesRequest:
    return public.BatchListPersonalMoviesRequest(requests=requests)


EXPLAINED = personal(limit=100, explain_features=100)  # 10,000 contributions

ACCEPTED = {
    "requests 1": batch(personal()),
    "requests 100": batch(*[personal()] * 100),
    "20,000 contributions": batch(EXPLAINED, EXPLAINED),
}

REFUSED = {
    "movie": (public.GetMovieRequest(), ["movie_id"]),
    "popular": (popular(limit=-1), ["limit"]),
    "personal": (personal(user_id=0), ["user_id"]),
    "similar": (similar(movie_id=0), ["movie_id"]),
    "search": (public.SearchMoviesRequest(), ["query"]),
    "user": (public.GetUserRequest(limit=-1), ["user_id", "limit"]),
    "taste": (public.ListTasteMoviesRequest(limit=-1), ["limit"]),
    "why": (why(movie_id=-1, exclude_movie_ids=(0,)), ["movie_id", "exclude_movie_ids[0]"]),
    "order undefined": (popular(order=3), ["order"]),
    "policy undefined": (personal(fallback_policy=3), ["fallback_policy"]),
    "requests 0": (batch(), ["requests"]),
    "requests 101, which are not looked at": (batch(*[personal(limit=-1)] * 101), ["requests"]),
    "DENY in a batch": (
        batch(personal(), personal(fallback_policy=public.FALLBACK_POLICY_DENY)),
        ["requests[1].fallback_policy"],
    ),
    "20,010 contributions": (batch(EXPLAINED, EXPLAINED, personal(explain_features=1)), ["requests"]),
}
"""A request of each kind, of which `serving.checks` has the rules, and what no table of limits states."""


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(request_: Message) -> None:
    DECODE[type(request_)](request_)


@pytest.mark.parametrize(("request_", "fields"), REFUSED.values(), ids=REFUSED)
def test_refused(request_: Message, fields: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        DECODE[type(request_)](request_)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert [v.field for v in caught.value.violations] == fields
    assert all(v.description.startswith("must ") for v in caught.value.violations)


def test_every_kind_of_request_is_checked() -> None:
    assert {type(request) for request, _ in REFUSED.values()} == set(DECODE)


def test_all_violations_are_named_at_once() -> None:
    broken = personal(
        user_id=-1,
        limit=-1,
        filter=public.MovieFilter(genres=[""], min_year=1, max_year=9999),
        exclude_movie_ids=[0],
        history=[public.RatedMovie(movie_id=1, rating=float("nan"))] * 2,
        diversity=float("nan"),
        explain_features=-1,
        because_of=-1,
        fallback_policy=77,
    )
    with pytest.raises(InvalidArgumentError) as caught:
        decode_batch(batch(personal(), broken))
    assert [v.field.removeprefix("requests[1].") for v in caught.value.violations] == [
        *("user_id", "limit", "filter.genres[0]", "filter.min_year", "filter.max_year"),
        *("exclude_movie_ids[0]", "history[0].rating", "history[1].rating", "history[1].movie_id"),
        *("diversity", "explain_features", "fallback_policy", "because_of"),
    ]


@pytest.mark.row(21)
@pytest.mark.parametrize(
    ("limit", "shown"), [(0, 10), (1, 1), (10, 10), (100, 100), (101, 100), (MAX_INT32, 100)]
)
def test_the_limit_has_a_default_and_an_upper_bound(limit: int, shown: int) -> None:
    assert decode_popular(popular(limit=limit)).limit == shown
    assert decode_similar(similar(limit=limit)).limit == shown
    assert decode_personal(personal(limit=limit)).limit == shown
    assert decode_batch(batch(personal(limit=limit)))[0].limit == shown


@pytest.mark.row(20)
def test_repeated_exclusions_are_accepted() -> None:
    request = personal(exclude_movie_ids=[7, 3, 7])
    assert decode_personal(request).exclude_movie_ids.tolist() == [7, 3, 7]
    assert decode_batch(batch(request))[0].exclude_movie_ids.tolist() == [7, 3, 7]


def test_the_defaults_of_why() -> None:
    request = decode_why(why(exclude_movie_ids=[7, 3, 7]))
    assert (request.in_question.limit, request.n_comparisons) == (10, 10)
    assert request.in_question.exclude_movie_ids.tolist() == [7, 3, 7]
    assert decode_why(why(limit=101, explain_features=1)).in_question.limit == 100


def test_the_policy_is_to_allow_unless_the_client_denies() -> None:
    policies = [decode_personal(personal(fallback_policy=number)).fallback_policy for number in (0, 1, 2)]
    assert policies == [FallbackPolicy.ALLOW, FallbackPolicy.ALLOW, FallbackPolicy.DENY]
    assert decode_similar(similar(fallback_policy=2)).fallback_policy is FallbackPolicy.DENY


def test_the_stages_take_all_that_the_gateway_takes() -> None:
    for field in set(LIMITS) - {"limit"}:
        ours, theirs = LIMITS[field], STAGE_LIMITS[field]
        assert theirs.low <= ours.low <= ours.high <= theirs.high
        assert replace(theirs, low=ours.low, high=ours.high) == ours  # the same rule, at most wider
    assert all(STAGE_LIMITS["limit"].hold(page_size(limit)) for limit in (0, 1, 100, MAX_INT32))
