"""The table of limits: accepted and refused values of every row, in requests of clients and of stages."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from movierec.candidate.v1 import candidate_service_pb2 as candidate_pb
from movierec.gateway.v1 import movie_service_pb2 as public
from movierec.ranking.v1 import ranking_service_pb2 as ranking_pb
from movierec.similarity.v1 import similarity_service_pb2 as similarity_pb
from serving.checks import PUBLIC, STAGE, Checker
from serving.errors import InvalidArgumentError, Reason
from serving.limits import LIMITS, STAGE_LIMITS, UNLESS, Measure
from serving.stages import candidate, ranking, similarity

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
MAX_FLOAT = 3.4e38
NOT_FINITE = (math.nan, math.inf, -math.inf)
YEAR_1, YEAR_9999 = -62_135_596_800, 253_402_300_799
"""First and last second that a Timestamp may have."""

Row: TypeAlias = tuple[Callable[..., Message], Sequence[Any], Sequence[Any]]
"""What makes a request with a value in one field; values that are accepted, and values that are refused."""


def popular(**fields: Any) -> public.ListPopularMoviesRequest:
    return public.ListPopularMoviesRequest(**({"limit": 1} | fields))


def personal(**fields: Any) -> public.ListPersonalMoviesRequest:
    return public.ListPersonalMoviesRequest(**({"user_id": 1, "limit": 1} | fields))


def filtered(**fields: Any) -> public.ListPersonalMoviesRequest:
    return personal(filter=public.MovieFilter(**fields))


def having_rated(**fields: Any) -> public.ListPersonalMoviesRequest:
    return personal(history=[public.RatedMovie(**({"movie_id": 1} | fields))])


def rated(n: int, kind: Any = public.RatedMovie) -> list[Any]:
    return [kind(movie_id=movie_id) for movie_id in range(1, n + 1)]


def searched(**fields: Any) -> public.SearchMoviesRequest:
    return public.SearchMoviesRequest(**({"limit": 1} | fields))


def batch(*requests: public.ListPersonalMoviesRequest) -> public.BatchListPersonalMoviesRequest:
    return public.BatchListPersonalMoviesRequest(requests=requests)


def candidates(**fields: Any) -> candidate_pb.GenerateCandidatesRequest:
    query = candidate_pb.CandidateQuery(**({"limit": 1} | fields))
    return candidate_pb.GenerateCandidatesRequest(queries=[query])


def candidates_filtered(**fields: Any) -> candidate_pb.GenerateCandidatesRequest:
    return candidates(filter=candidate_pb.MovieFilter(**fields))


def candidates_having_rated(**fields: Any) -> candidate_pb.GenerateCandidatesRequest:
    return candidates(history=[candidate_pb.RatedMovie(**({"movie_id": 1} | fields))])


def ranked(**fields: Any) -> ranking_pb.RankMoviesRequest:
    query = ranking_pb.RankingQuery(**({"movie_ids": [1], "retrieval_scores": [1]} | fields))
    return ranking_pb.RankMoviesRequest(queries=[query])


def probed(**fields: Any) -> ranking_pb.RankMoviesRequest:
    return ranked(probes=[ranking_pb.RankingProbe(**({"movie_id": 1, "retrieval_rank": 1} | fields))])


def probes(n: int) -> list[ranking_pb.RankingProbe]:
    return [ranking_pb.RankingProbe(movie_id=movie_id, retrieval_rank=1) for movie_id in range(1, n + 1)]


def ranked_by(**fields: Any) -> ranking_pb.RankMoviesRequest:
    return ranking_pb.RankMoviesRequest(queries=ranked().queries, **fields)


def similar(**fields: Any) -> similarity_pb.FindSimilarMoviesRequest:
    return similarity_pb.FindSimilarMoviesRequest(**({"movie_id": 1, "limit": 1} | fields))


def similar_filtered(**fields: Any) -> similarity_pb.FindSimilarMoviesRequest:
    return similar(filter=similarity_pb.MovieFilter(**fields))


def names(n: int) -> list[str]:
    return [f"genre {place}" for place in range(n)]


ID = ([1, MAX_INT32], [0, -1])
USER = ([1, MAX_INT64], [0, -1])
RANK = ([0, MAX_INT32], [-1])
STARS = ([0.5, 5], [0, 0.4, 5.1, *NOT_FINITE])
TIMES = (
    [Timestamp(seconds=seconds) for seconds in (YEAR_1, YEAR_9999)],
    [Timestamp(seconds=seconds) for seconds in (YEAR_1 - 1, YEAR_9999 + 1, 1_600_000_000_000)],
)
OURS = candidate_pb.RatedMovie
SHARE = ([0, 1], [-0.01, 1.01, *NOT_FINITE])
SCORE = ([0, -MAX_FLOAT, MAX_FLOAT], NOT_FINITE)
RANKS = ([[], [1] * 1_000], [[1] * 1_001])
GENRES = ([[], names(20)], [names(21)])
GENRE = (
    ["g", "g" * 40, "Telenovela", "Комедия", "ドラマ"],
    ["", "g" * 41, "Dra\nma", "\x00", "\x7f", "\x85"],
)
BUNDLE_IDS = (["", "b", "20261128T120000Z-1_a", "b" * 64], ["b" * 65, "../b", "b\n"])
YEAR = ([1870, 2200], [0, 1869, 2201])

PUBLIC_ROWS: Mapping[str, Row] = {
    "movie_id": (public.GetMovieRequest, *ID),
    "user_id": (personal, *USER),
    "exclude_seen_by_user_id": (popular, *USER),
    "limit": (popular, [0, MAX_INT32], [-1]),
    "query": (
        searched,
        ["q", "q" * 100, "Комедия", '"', "'; DROP TABLE words; --"],
        ["", "q" * 101, "ma\ntrix", "\x00"],
    ),
    "offset": (popular, [0, 100_000], [-1, 100_001]),
    "exclude_movie_ids": (personal, [[], [7, 7], [7] * 1_000], [[7] * 1_001]),
    "exclude_movie_ids[]": (personal, *ID),
    "history": (personal, [[], rated(500)], [rated(501)]),
    "history[].movie_id": (having_rated, *ID),
    "history[].rating": (having_rated, *STARS),
    "history[].rate_time": (having_rated, *TIMES),
    "diversity": (personal, *SHARE),
    "explain_features": (personal, [0, 100], [-1, 101]),
    "because_of": (personal, [0, 3], [-1, 4]),
    "bundle_id": (personal, *BUNDLE_IDS),
    "filter.genres": (filtered, *GENRES),
    "filter.genres[]": (filtered, *GENRE),
    "filter.exclude_genres": (filtered, *GENRES),
    "filter.exclude_genres[]": (filtered, *GENRE),
    "filter.min_year": (filtered, *YEAR),
    "filter.max_year": (filtered, *YEAR),
    "requests": (
        public.BatchListPersonalMoviesRequest,
        [[personal()], [personal()] * 100],
        [[], [personal()] * 101],
    ),
}
"""By field of the table, whose last part is the argument; `[]` stands for the entry at 0."""

STAGE_ROWS: Mapping[str, Row] = {
    "movie_id": (similar, *ID),
    "limit": (similar, [1, 1_000], [0, -1, 1_001]),
    "queries[].user_id": (candidates, [0, MAX_INT64], [-1]),
    "queries[].CandidateQuery.limit": (candidates, [0, 1_000], [-1, 1_001]),
    "queries[].RankingQuery.limit": (ranked, [0, 1_000], [-1, 1_001]),
    "queries[].exclude_movie_ids": (candidates, [[], [7, 7], [7] * 100_000], [[7] * 100_001]),
    "queries[].exclude_movie_ids[]": (candidates, *ID),
    "queries[].history": (candidates, [[], rated(500, OURS)], [rated(501, OURS)]),
    "queries[].history[].movie_id": (candidates_having_rated, *ID),
    "queries[].history[].rating": (candidates_having_rated, *STARS),
    "queries[].history[].rate_time": (candidates_having_rated, *TIMES),
    "queries[].diversity": (ranked, *SHARE),
    "queries[].explain_features": (ranked, [0, 100], [-1, 101]),
    "queries[].because_of": (candidates, [0, 3], [-1, 4]),
    "filter.genres": (similar_filtered, *GENRES),
    "queries[].filter.genres[]": (candidates_filtered, *GENRE),
    "queries[].filter.exclude_genres": (candidates_filtered, *GENRES),
    "queries[].filter.exclude_genres[]": (candidates_filtered, *GENRE),
    "queries[].filter.min_year": (candidates_filtered, *YEAR),
    "queries[].filter.max_year": (candidates_filtered, *YEAR),
    "queries": (
        candidate_pb.GenerateCandidatesRequest,
        [candidates().queries, [*candidates().queries] * 100],
        [[], [*candidates().queries] * 101],
    ),
    "bundle_id": (ranked_by, *BUNDLE_IDS),
    "queries[].movie_ids": (ranked, [[1], range(1, 1_001)], [[], range(1, 1_002)]),
    "queries[].movie_ids[]": (ranked, *ID),
    "queries[].retrieval_scores": (ranked, *RANKS),
    "queries[].retrieval_scores[]": (ranked, *SCORE),
    "queries[].transitions_ranks": (ranked, *RANKS),
    "queries[].transitions_ranks[]": (ranked, *RANK),
    "queries[].probes[].transitions_rank": (probed, *RANK),
    "queries[].popularity_ranks": (ranked, *RANKS),
    "queries[].popularity_ranks[]": (ranked, *RANK),
    "queries[].probes[].popularity_rank": (probed, *RANK),
    "queries[].probe_movie_ids": (candidates, [[], range(1, 11)], [range(1, 12)]),
    "queries[].probe_movie_ids[]": (candidates, *ID),
    "queries[].probes": (ranked, [[], probes(10)], [probes(11)]),
    "queries[].probes[].movie_id": (probed, *ID),
    "queries[].probes[].retrieval_score": (probed, *SCORE),
    "queries[].probes[].retrieval_rank": (probed, *ID),
}

IN_NO_STAGE = {"query", "exclude_seen_by_user_id", "offset", "requests"}
"""Fields that no request to a stage has."""


def fields(checker: Checker, request: Message) -> list[str]:
    """The fields that a checker finds fault with."""
    return [violation.field for violation in checker.violations(request)]


def cases(rows: Mapping[str, Row], *, accepted: bool) -> list[Any]:
    """Requests with the accepted or the refused values of all rows, and the field of each."""
    found = []
    for name, (build, good, bad) in rows.items():
        argument = name.rpartition(".")[2].removesuffix("[]")
        field = re.sub(r"\w+Query\.", "", name).replace("[]", "[0]")
        for n, value in enumerate(good if accepted else bad):
            request = build(**{argument: [value] if name.endswith("[]") else value})
            found.append(pytest.param(request, field, id=f"{name}-{n}"))
    return found


def test_every_row_has_values() -> None:
    assert set(PUBLIC_ROWS) == set(LIMITS)
    assert {name.removeprefix("queries[].") for name in STAGE_ROWS} == set(STAGE_LIMITS) - IN_NO_STAGE


@pytest.mark.parametrize(("request_", "field"), cases(PUBLIC_ROWS, accepted=True))
def test_public_accepted(request_: Message, field: str) -> None:
    assert fields(PUBLIC, request_) == []
    assert field == "limit" or fields(STAGE, request_) == []  # a page of 0 or of more than 100 is never asked


@pytest.mark.parametrize(("request_", "field"), cases(PUBLIC_ROWS, accepted=False))
def test_public_refused(request_: Message, field: str) -> None:
    (found,) = PUBLIC.violations(request_)
    assert found.field == field
    assert found.description.startswith("must ")


@pytest.mark.parametrize(("request_", "field"), cases(STAGE_ROWS, accepted=True))
def test_stage_accepted(request_: Message, field: str) -> None:
    assert fields(STAGE, request_) == []


@pytest.mark.parametrize(("request_", "field"), cases(STAGE_ROWS, accepted=False))
def test_stage_refused(request_: Message, field: str) -> None:
    (found,) = STAGE.violations(request_)
    assert found.field == field
    assert found.description.startswith("must ")


def ruled(message: Descriptor, prefix: str = "") -> Iterator[str]:
    """What must be in the table for a message: all but bools, whose values are two, and enums."""
    for field in message.fields:
        name = prefix + field.name
        if f"{message.name}.{field.name}" in STAGE_LIMITS:
            name = f"{message.name}.{field.name}"
        if field.is_repeated:
            yield name
            name += "[]"
        if field.message_type is not None and field.message_type.full_name != "google.protobuf.Timestamp":
            yield from ruled(field.message_type, "" if name in {"queries[]", "requests[]"} else f"{name}.")
        elif field.type not in {FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM}:
            yield name


def ruled_of(*services: ServiceDescriptor) -> set[str]:
    """The same for all requests of services."""
    requests = {method.input_type.full_name: method.input_type for one in services for method in one.methods}
    return {name for request in requests.values() for name in ruled(request)}


def test_every_field_of_a_request_has_limits_and_no_other() -> None:
    assert ruled_of(public.DESCRIPTOR.services_by_name["MovieService"]) == set(LIMITS)
    of_stages = ruled_of(candidate.SERVICE, ranking.SERVICE, similarity.SERVICE)
    assert of_stages == set(STAGE_LIMITS) - IN_NO_STAGE


REPEATED: Mapping[str, tuple[Checker, Message]] = {
    "history[1].movie_id": (
        PUBLIC,
        personal(history=[public.RatedMovie(movie_id=1, rating=stars) for stars in (1, 2)]),
    ),
    "filter.genres[1]": (PUBLIC, filtered(genres=["War", "War"])),
    "filter.exclude_genres[2]": (PUBLIC, filtered(exclude_genres=["War", "Drama", "War"])),
    "queries[0].movie_ids[1]": (STAGE, ranked(movie_ids=[1, 1])),
    "queries[0].probe_movie_ids[1]": (STAGE, candidates(probe_movie_ids=[1, 1])),
    "queries[0].probes[1].movie_id": (
        STAGE,
        ranked(probes=[ranking_pb.RankingProbe(movie_id=1, retrieval_rank=rank) for rank in (1, 2)]),
    ),
}


@pytest.mark.row(20)
@pytest.mark.parametrize("field", REPEATED)
def test_entries_must_differ(field: str) -> None:
    checker, request = REPEATED[field]
    assert fields(checker, request) == [field]


def test_entries_of_every_unique_list_must_differ() -> None:
    lists = {field.removeprefix("queries[0].").partition("[")[0] for field in REPEATED}
    assert lists == {name for name, limits in STAGE_LIMITS.items() if limits.unique}


TOO_LONG: Mapping[str, tuple[Checker, Message]] = {
    "exclude_movie_ids": (PUBLIC, personal(exclude_movie_ids=[0] * 1_001)),
    "history": (PUBLIC, personal(history=[public.RatedMovie()] * 501)),
    "filter.genres": (PUBLIC, filtered(genres=[""] * 21)),
    "filter.exclude_genres": (PUBLIC, filtered(exclude_genres=[""] * 21)),
    "requests": (PUBLIC, batch(*[personal(limit=-1)] * 101)),
    "queries": (STAGE, candidate_pb.GenerateCandidatesRequest(queries=[candidate_pb.CandidateQuery()] * 101)),
    "queries[0].exclude_movie_ids": (STAGE, candidates(exclude_movie_ids=[0] * 100_001)),
    "queries[0].movie_ids": (STAGE, ranked(movie_ids=[0] * 1_001)),
    "queries[0].retrieval_scores": (STAGE, ranked(retrieval_scores=[math.nan] * 1_001)),
    "queries[0].transitions_ranks": (STAGE, ranked(transitions_ranks=[-1] * 1_001)),
    "queries[0].popularity_ranks": (STAGE, ranked(popularity_ranks=[-1] * 1_001)),
    "queries[0].probe_movie_ids": (STAGE, candidates(probe_movie_ids=[0] * 11)),
    "queries[0].probes": (STAGE, ranked(probes=[ranking_pb.RankingProbe()] * 11)),
}


@pytest.mark.parametrize("field", TOO_LONG)
def test_the_entries_of_a_list_that_is_too_long_are_not_looked_at(field: str) -> None:
    checker, request = TOO_LONG[field]
    assert fields(checker, request) == [field]


def test_every_list_can_be_too_long() -> None:
    lists = {name for name, limits in STAGE_LIMITS.items() if limits.measure is Measure.ENTRIES}
    assert {field.removeprefix("queries[0].") for field in TOO_LONG} == lists


def test_every_entry_that_breaks_a_rule_is_named() -> None:
    assert fields(PUBLIC, personal(exclude_movie_ids=[5, 0, 5, -1])) == [
        "exclude_movie_ids[1]",
        "exclude_movie_ids[3]",
    ]
    assert fields(STAGE, ranked(movie_ids=range(1, 5), retrieval_scores=[1, *NOT_FINITE])) == [
        f"queries[0].retrieval_scores[{place}]" for place in (1, 2, 3)
    ]
    assert fields(PUBLIC, batch(personal(), personal(limit=-1, filter=public.MovieFilter(min_year=1)))) == [
        "requests[1].limit",
        "requests[1].filter.min_year",
    ]


def test_scores_that_are_huge_together_are_finite() -> None:
    request = ranked(movie_ids=range(1, 1_001), retrieval_scores=[MAX_FLOAT] * 1_000)
    assert fields(STAGE, request) == []


@pytest.mark.parametrize("checker", [PUBLIC, STAGE])
def test_years_are_in_order(checker: Checker) -> None:
    assert fields(checker, filtered(min_year=1990, max_year=1990)) == []
    assert fields(checker, filtered(min_year=1991, max_year=1990)) == ["filter.min_year"]
    assert fields(checker, filtered(min_year=2200)) == []  # an unset year is not 0
    similar_years = similarity_pb.MovieFilter(min_year=1991, max_year=1990)
    assert fields(checker, similar(filter=similar_years)) == ["filter.min_year"]
    candidate_years = candidates_filtered(min_year=1991, max_year=1990)
    assert fields(checker, candidate_years)[-1] == "queries[0].filter.min_year"


@pytest.mark.parametrize("policy", public.FallbackPolicy.values())
def test_values_of_an_enum_are_accepted(policy: public.FallbackPolicy.ValueType) -> None:
    assert fields(PUBLIC, personal(fallback_policy=policy)) == []


@pytest.mark.parametrize("number", [-1, 3, MAX_INT32])
def test_other_numbers_in_an_enum_are_refused(number: Any) -> None:
    assert fields(PUBLIC, personal(fallback_policy=number)) == ["fallback_policy"]
    request = public.ListSimilarMoviesRequest(movie_id=1, fallback_policy=number)
    assert fields(PUBLIC, request) == ["fallback_policy"]
    assert fields(PUBLIC, batch(personal(fallback_policy=number))) == ["requests[0].fallback_policy"]


def test_a_field_may_be_unset_beside_the_other_one() -> None:
    assert UNLESS == {"user_id": "history"}
    history = [public.RatedMovie(movie_id=1)]
    assert fields(PUBLIC, personal(user_id=0, history=history)) == []
    (violation,) = PUBLIC.violations(personal(user_id=0))
    assert (violation.field, violation.description) == (
        "user_id",
        "must be at least 1, or unset with a history",
    )
    assert fields(PUBLIC, personal(user_id=-1, history=history)) == ["user_id"]
    (violation,) = PUBLIC.violations(public.WhyMovieRequest(movie_id=1))  # it has no history
    assert (violation.field, violation.description) == ("user_id", "must be at least 1")


def test_what_is_unset_is_not_looked_at() -> None:
    assert fields(PUBLIC, having_rated()) == []  # neither rating nor time
    assert fields(PUBLIC, filtered()) == []
    assert fields(PUBLIC, public.ListPopularMoviesRequest()) == []


def test_an_entry_may_break_two_rules() -> None:
    found = PUBLIC.violations(filtered(genres=["\n" * 41]))
    assert [violation.field for violation in found] == ["filter.genres[0]"] * 2
    rules = {"must be 1 to 40 characters", "must not have control characters"}
    assert {violation.description for violation in found} == rules


def test_a_check_names_all_broken_rules_at_once() -> None:
    PUBLIC.require(personal())
    with pytest.raises(InvalidArgumentError) as caught:
        PUBLIC.require(filtered(genres=[""], min_year=1))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert [violation.field for violation in caught.value.violations] == [
        "filter.genres[0]",
        "filter.min_year",
    ]
