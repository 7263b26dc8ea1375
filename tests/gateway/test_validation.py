"""The table of rules: a value that is accepted and one that is refused, for each row."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

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
MAX_INT64 = 2**63 - 1
YEAR_1 = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
YEAR_10_000 = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) + 24 * 60 * 60


def history(
    *movie_ids: int, rating: float | None = None, time: int | None = None
) -> Iterable[public.RatedMovie]:
    rate_time = None if time is None else Timestamp(seconds=time)
    return [public.RatedMovie(movie_id=n, rating=rating, rate_time=rate_time) for n in movie_ids]


def popular(**fields: Any) -> public.ListPopularMoviesRequest:
    return public.ListPopularMoviesRequest(**fields)


def personal(**fields: Any) -> public.ListPersonalMoviesRequest:
    return public.ListPersonalMoviesRequest(**({"user_id": 1} | fields))


def similar(**fields: Any) -> public.ListSimilarMoviesRequest:
    return public.ListSimilarMoviesRequest(**({"movie_id": 1} | fields))


def why(**fields: Any) -> public.WhyMovieRequest:
    return public.WhyMovieRequest(**({"movie_id": 1, "user_id": 1} | fields))


def movie(movie_id: int) -> public.GetMovieRequest:
    return public.GetMovieRequest(movie_id=movie_id)


def batch(*requests: public.ListPersonalMoviesRequest) -> public.BatchListPersonalMoviesRequest:
    return public.BatchListPersonalMoviesRequest(requests=requests)


def filtered(**fields: Any) -> public.ListPersonalMoviesRequest:
    return personal(filter=public.MovieFilter(**fields))


def names(n: int) -> tuple[str, ...]:
    return tuple(f"genre {i}" for i in range(n))


EXPLAINED = personal(limit=100, explain_features=100)  # 10,000 contributions


ACCEPTED = {
    "movie_id 1": movie(1),
    "movie_id at most": movie(MAX_INT32),
    "similar movie_id": similar(movie_id=MAX_INT32),
    "user_id 1": personal(user_id=1),
    "user_id at most": personal(user_id=MAX_INT64),
    "user_id unset beside a history": personal(user_id=0, history=history(1)),
    "exclude_seen_by_user_id unset": popular(),
    "exclude_seen_by_user_id 1": popular(exclude_seen_by_user_id=1),
    "similar exclude_seen_by_user_id": similar(exclude_seen_by_user_id=MAX_INT64),
    "limit 0": popular(limit=0),
    "limit at most": personal(limit=MAX_INT32),
    "offset 0": popular(offset=0),
    "offset at most": popular(offset=100_000),
    "exclude_movie_ids 1000": personal(exclude_movie_ids=tuple(range(1, 1001))),
    "exclude_movie_ids repeated": personal(exclude_movie_ids=(7, 7)),
    "history 500": personal(history=history(*range(1, 501))),
    "rating least": personal(history=history(1, rating=0.5)),
    "rating most": personal(history=history(1, rating=5.0)),
    "rate_time least": personal(history=history(1, time=YEAR_1)),
    "rate_time most": personal(history=history(1, time=YEAR_10_000 - 1)),
    "diversity 0": personal(diversity=0.0),
    "diversity 1": personal(diversity=1.0),
    "explain_features 100": personal(explain_features=100),
    "genres 20": filtered(genres=names(20)),
    "exclude_genres 20": filtered(exclude_genres=names(20)),
    "genre 1 character": filtered(genres=("x",)),
    "genre 40 characters": filtered(genres=("x" * 40,)),
    "genre unknown": filtered(genres=("Telenovela",)),
    "genre of other letters": filtered(genres=("Комедия", "ドラマ")),
    "min_year least": filtered(min_year=1870),
    "max_year most": filtered(max_year=2200),
    "one year": filtered(min_year=1999, max_year=1999),
    "because_of 0": personal(because_of=0),
    "because_of 3": personal(because_of=3),
    "why at most": why(
        movie_id=MAX_INT32,
        user_id=MAX_INT64,
        limit=MAX_INT32,
        exclude_movie_ids=(7,) * 1000,
        explain_features=100,
        filter=public.MovieFilter(genres=names(20), min_year=1870, max_year=2200),
    ),
    "ALLOW": personal(fallback_policy=public.FALLBACK_POLICY_ALLOW),
    "DENY": personal(fallback_policy=public.FALLBACK_POLICY_DENY),
    "similar DENY": similar(fallback_policy=public.FALLBACK_POLICY_DENY),
    "taste at most": public.ListTasteMoviesRequest(limit=MAX_INT32),
    "trending": popular(order=public.POPULAR_ORDER_TRENDING),
    "user at most": public.GetUserRequest(user_id=MAX_INT64, limit=MAX_INT32),
    "requests 1": batch(personal()),
    "requests 100": batch(*[personal()] * 100),
    "20,000 contributions": batch(EXPLAINED, EXPLAINED),
}

REFUSED = {
    "movie_id 0": (movie(0), ["movie_id"]),
    "movie_id negative": (movie(-1), ["movie_id"]),
    "similar movie_id 0": (similar(movie_id=0), ["movie_id"]),
    "user_id 0": (personal(user_id=0), ["user_id"]),
    "user_id negative": (personal(user_id=-1), ["user_id"]),
    "user_id negative beside a history": (personal(user_id=-1, history=history(1)), ["user_id"]),
    "exclude_seen_by_user_id 0": (popular(exclude_seen_by_user_id=0), ["exclude_seen_by_user_id"]),
    "similar exclude_seen": (similar(exclude_seen_by_user_id=-5), ["exclude_seen_by_user_id"]),
    "popular limit": (popular(limit=-1), ["limit"]),
    "taste": (public.ListTasteMoviesRequest(limit=-1), ["limit"]),
    "order undefined": (popular(order=3), ["order"]),
    "user": (public.GetUserRequest(limit=-1), ["user_id", "limit"]),
    "personal limit": (personal(limit=-1), ["limit"]),
    "similar limit": (similar(limit=-1), ["limit"]),
    "offset negative": (popular(offset=-1), ["offset"]),
    "offset too high": (popular(offset=100_001), ["offset"]),
    "exclude_movie_ids 1001": (
        personal(exclude_movie_ids=tuple(range(1, 1002))),
        ["exclude_movie_ids"],
    ),
    "exclude_movie_ids 0": (
        personal(exclude_movie_ids=(5, 0, -1)),
        ["exclude_movie_ids[1]", "exclude_movie_ids[2]"],
    ),
    "history 501": (personal(history=history(*range(1, 502))), ["history"]),
    "history movie_id 0": (personal(history=history(3, 0)), ["history[1].movie_id"]),
    "history repeated": (personal(history=history(3, 4, 3)), ["history[2].movie_id"]),
    "rating 0": (personal(history=history(1, rating=0.0)), ["history[0].rating"]),
    "rating too high": (personal(history=history(1, rating=5.5)), ["history[0].rating"]),
    "rating NaN": (personal(history=history(1, rating=math.nan)), ["history[0].rating"]),
    "rating infinite": (personal(history=history(1, rating=math.inf)), ["history[0].rating"]),
    "rate_time before the year 1": (personal(history=history(1, time=YEAR_1 - 1)), ["history[0].rate_time"]),
    "rate_time in ms": (personal(history=history(1, time=1_600_000_000_000)), ["history[0].rate_time"]),
    "rate_time after 9999": (personal(history=history(1, time=YEAR_10_000)), ["history[0].rate_time"]),
    "diversity negative": (personal(diversity=-0.1), ["diversity"]),
    "diversity too high": (personal(diversity=1.1), ["diversity"]),
    "diversity NaN": (personal(diversity=math.nan), ["diversity"]),
    "explain_features negative": (personal(explain_features=-1), ["explain_features"]),
    "explain_features 101": (personal(explain_features=101), ["explain_features"]),
    "genres 21": (filtered(genres=names(21)), ["filter.genres"]),
    "exclude_genres 21": (filtered(exclude_genres=names(21)), ["filter.exclude_genres"]),
    "genres repeated": (filtered(genres=("War", "War")), ["filter.genres[1]"]),
    "exclude_genres repeated": (
        filtered(exclude_genres=("War", "Drama", "War")),
        ["filter.exclude_genres[2]"],
    ),
    "genre empty": (filtered(genres=("",)), ["filter.genres[0]"]),
    "genre 41 characters": (filtered(genres=("x" * 41,)), ["filter.genres[0]"]),
    "genre with a control character": (filtered(exclude_genres=("Wa\x00r",)), ["filter.exclude_genres[0]"]),
    "min_year too low": (filtered(min_year=1869), ["filter.min_year"]),
    "min_year 0": (filtered(min_year=0), ["filter.min_year"]),
    "max_year too high": (filtered(max_year=2201), ["filter.max_year"]),
    "years out of order": (filtered(min_year=2000, max_year=1999), ["filter.min_year"]),
    "because_of negative": (personal(because_of=-1), ["because_of"]),
    "because_of 4": (personal(because_of=4), ["because_of"]),
    "why movie_id 0": (why(movie_id=0), ["movie_id"]),
    "why user_id 0": (why(user_id=0), ["user_id"]),
    "why limit": (why(limit=-1), ["limit"]),
    "why explain_features": (why(explain_features=101), ["explain_features"]),
    "why filter": (why(filter=public.MovieFilter(min_year=1)), ["filter.min_year"]),
    "why exclude_movie_ids": (
        why(movie_id=-1, exclude_movie_ids=(0,)),
        ["movie_id", "exclude_movie_ids[0]"],
    ),
    "policy undefined": (personal(fallback_policy=3), ["fallback_policy"]),
    "similar policy undefined": (similar(fallback_policy=3), ["fallback_policy"]),
    "requests 0": (batch(), ["requests"]),
    "requests 101": (batch(*[personal()] * 101), ["requests"]),
    "DENY in a batch": (
        batch(personal(), personal(fallback_policy=public.FALLBACK_POLICY_DENY)),
        ["requests[1].fallback_policy"],
    ),
    "20,010 contributions": (
        batch(EXPLAINED, EXPLAINED, personal(explain_features=1)),
        ["requests"],
    ),
    "an entry of a batch": (
        batch(personal(), personal(), personal(limit=-1)),
        ["requests[2].limit"],
    ),
}


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(request_: Message) -> None:
    DECODE[type(request_)](request_)


@pytest.mark.row(14, 20)
@pytest.mark.parametrize(("request_", "fields"), REFUSED.values(), ids=REFUSED)
def test_refused(request_: Message, fields: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        DECODE[type(request_)](request_)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert [v.field for v in caught.value.violations] == fields
    assert all(v.description.startswith("must ") for v in caught.value.violations)


def test_all_violations_are_named_at_once() -> None:
    broken = personal(
        user_id=-1,
        limit=-1,
        filter=public.MovieFilter(genres=[""], min_year=1, max_year=9999),
        exclude_movie_ids=[0],
        history=history(1, 1, rating=9),
        diversity=2,
        explain_features=-1,
        because_of=-1,
        fallback_policy=3,
    )
    with pytest.raises(InvalidArgumentError) as caught:
        decode_batch(batch(personal(), broken))
    assert [v.field.removeprefix("requests[1].") for v in caught.value.violations] == [
        "user_id",
        "limit",
        "filter.genres[0]",
        "filter.min_year",
        "filter.max_year",
        "exclude_movie_ids[0]",
        "history[0].rating",
        "history[1].rating",
        "history[1].movie_id",
        "diversity",
        "explain_features",
        "fallback_policy",
        "because_of",
    ]


def test_the_entries_of_a_list_that_is_too_long_are_not_looked_at() -> None:
    n = 100_000
    broken = personal(
        filter=public.MovieFilter(genres=[""] * n),
        exclude_movie_ids=[0] * n,
        history=history(*[0] * n),
    )
    with pytest.raises(InvalidArgumentError) as caught:
        decode_personal(broken)
    assert [v.field for v in caught.value.violations] == ["filter.genres", "exclude_movie_ids", "history"]
    with pytest.raises(InvalidArgumentError) as caught:
        decode_batch(batch(*[personal(limit=-1)] * n))
    assert [v.field for v in caught.value.violations] == ["requests"]


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
    assert (request.limit, request.explain_features) == (10, 10)
    assert request.exclude_movie_ids.tolist() == [7, 3, 7]
    assert decode_why(why(limit=101, explain_features=1)).limit == 100


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
