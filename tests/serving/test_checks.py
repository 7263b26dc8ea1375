"""Rules that requests of several services share: an accepted and a refused value per row."""

from collections.abc import Callable

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from movierec.gateway.v1 import movie_service_pb2 as pb
from serving.errors import InvalidArgumentError
from serving.rpc.checks import (
    Violations,
    check_filter,
    check_finite,
    check_history,
    check_movie_ids,
    check_range,
    check_unique,
)

Filter, Rated = pb.MovieFilter, pb.RatedMovie


def broken(check: Callable[[Violations], None]) -> list[str]:
    """The fields that a check finds fault with."""
    violations = Violations()
    check(violations)
    try:
        violations.raise_any()
    except InvalidArgumentError as error:
        return [violation.field for violation in error.violations]
    return []


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Filter(), []),
        (Filter(genres=["g" * 40]), []),
        (Filter(genres=["g" * 41]), ["f.genres"]),
        (Filter(genres=[""]), ["f.genres"]),
        (Filter(genres=["Dra\nma"]), ["f.genres"]),
        (Filter(genres=[str(i) for i in range(20)]), []),
        (Filter(genres=[str(i) for i in range(21)]), ["f.genres"]),
        (Filter(exclude_genres=["War", "War"]), ["f.exclude_genres"]),
        (Filter(min_year=1870, max_year=2200), []),
        (Filter(min_year=1869), ["f.min_year"]),
        (Filter(max_year=2201), ["f.max_year"]),
        (Filter(min_year=0), ["f.min_year"]),
        (Filter(min_year=1990, max_year=1990), []),
        (Filter(min_year=1991, max_year=1990), ["f.min_year"]),
        (Filter(genres=[""], min_year=1), ["f.genres", "f.min_year"]),
    ],
)
def test_filter(message: pb.MovieFilter, fields: list[str]) -> None:
    assert broken(lambda violations: check_filter(violations, "f", message)) == fields


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([], []),
        ([Rated(movie_id=1), Rated(movie_id=2, rating=0.5), Rated(movie_id=3, rating=5)], []),
        ([Rated(movie_id=0)], ["h[0].movie_id"]),
        ([Rated(movie_id=1), Rated(movie_id=2, rating=0.4)], ["h[1].rating"]),
        ([Rated(movie_id=1, rating=5.1)], ["h[0].rating"]),
        ([Rated(movie_id=1, rating=0)], ["h[0].rating"]),
        ([Rated(movie_id=1, rating=float("nan"))], ["h[0].rating"]),
        ([Rated(movie_id=1, rating=float("inf"))], ["h[0].rating"]),
        ([Rated(movie_id=1, rate_time=Timestamp(seconds=1_600_000_000))], []),
        ([Rated(movie_id=1, rate_time=Timestamp(seconds=1_600_000_000_000))], ["h[0].rate_time"]),
        ([Rated(movie_id=1, rate_time=Timestamp(seconds=-62_135_596_801))], ["h[0].rate_time"]),
        ([Rated(movie_id=1), Rated(movie_id=1)], ["h"]),
        ([Rated(movie_id=i) for i in range(1, 501)], []),
        ([Rated(movie_id=i) for i in range(1, 502)], ["h"]),
    ],
)
def test_history(messages: list[pb.RatedMovie], fields: list[str]) -> None:
    assert broken(lambda violations: check_history(violations, "h", messages)) == fields


@pytest.mark.parametrize(
    ("value", "fields"), [(0, []), (1, []), (-0.01, ["x"]), (1.01, ["x"]), (float("nan"), ["x"])]
)
def test_range(value: float, fields: list[str]) -> None:
    assert broken(lambda violations: check_range(violations, "x", value, low=0, high=1)) == fields


@pytest.mark.parametrize(
    ("ids", "fields"), [([], []), ([1, 1], []), ([1, 0], ["x"]), ([-1], ["x"]), ([1, 2, 3], ["x"])]
)
def test_movie_ids(ids: list[int], fields: list[str]) -> None:
    assert broken(lambda violations: check_movie_ids(violations, "x", ids, most=2)) == fields


def test_unique() -> None:
    assert broken(lambda violations: check_unique(violations, "x", [1, 2])) == []
    assert broken(lambda violations: check_unique(violations, "x", [1, 1])) == ["x"]


def test_finite() -> None:
    assert broken(lambda violations: check_finite(violations, "x", [1.0, -1.0])) == []
    assert broken(lambda violations: check_finite(violations, "x", [1.0, float("-inf")])) == ["x"]
