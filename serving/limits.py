"""What the fields of requests may hold: the tables that gateway, stages and API document read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from serving.bundle.manifest import BUNDLE_ID_PATTERN

DEFAULT_LIMIT: Final = 10
"""What a limit of 0 stands for."""
DEFAULT_COMPARISONS: Final = 10
"""What explain_features of 0 stands for in WhyMovie, whose answer they are."""
MAX_LIMIT: Final = 100
"""What a higher limit stands for: not an error, as the client cannot know what is too much."""
DEFAULT_CANDIDATES: Final = 300
"""Movies that stage one hands to stage two for a user, unless the recipe says otherwise."""
MAX_CONTRIBUTIONS: Final = 20_000
"""Of a batch, and of a call to ranking: limit times explain_features, summed up."""
CONTRIBUTIONS_RULE: Final = (
    f"must ask for at most {MAX_CONTRIBUTIONS} contributions: limit times explain_features, summed up"
)
"""The rule of `MAX_CONTRIBUTIONS`, in words."""

_MAX_INT32: Final = 2**31 - 1
_MAX_INT64: Final = 2**63 - 1


class Measure(StrEnum):
    """What a limit is about, and the rule in words."""

    VALUE = "must be {low:g} to {high:g}"
    FINITE = "must be finite"
    ENTRIES = "must have {low:g} to {high:g} entries"
    CHARACTERS = "must be {low:g} to {high:g} characters"
    SECONDS = "must be in the years 1 to 9999, its seconds since 1970"


@dataclass(frozen=True)
class Limits:
    """What a field may hold, both bounds included. NaN is within no limits."""

    low: float
    high: float
    measure: Measure = Measure.VALUE
    unique: bool = False
    """Of entries: all must differ; messages by their movie_id."""
    pattern: str | None = None
    """Of characters: what they must match as a whole, in Python and in ECMAScript."""
    pattern_rule: str = ""
    """The pattern, in words."""

    def hold(self, value: float) -> bool:
        """Whether a value, or what is measured of it, is allowed."""
        return self.low <= value <= self.high

    @property
    def rule(self) -> str:
        """The rule, in words."""
        if self.high in {_MAX_INT32, _MAX_INT64}:
            return f"must be at least {self.low:g}"
        return self.measure.format(low=self.low, high=self.high)


_ID: Final = Limits(1, _MAX_INT32)
_RANK: Final = Limits(0, _MAX_INT32)
_FINITE: Final = Limits(-math.inf, math.inf, Measure.FINITE)
_GENRES: Final = Limits(0, 20, Measure.ENTRIES, unique=True)
_PRINTABLE: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_PRINTABLE_RULE: Final = "must not have control characters"
_GENRE: Final = Limits(1, 40, Measure.CHARACTERS, pattern=_PRINTABLE, pattern_rule=_PRINTABLE_RULE)
_YEAR: Final = Limits(1870, 2200)
_MOVIES_OF_A_LIST: Final = Limits(1, 1_000)

N_CANDIDATES: Final = Limits(MAX_LIMIT, _MOVIES_OF_A_LIST.high)
"""How many a recipe may say: enough for the longest list, and no more than a call to ranking may hold."""

LIMITS: Final[Mapping[str, Limits]] = MappingProxyType(
    {
        "movie_id": _ID,
        "user_id": Limits(1, _MAX_INT64),
        "exclude_seen_by_user_id": Limits(1, _MAX_INT64),
        "limit": Limits(0, _MAX_INT32),
        "query": Limits(1, 100, Measure.CHARACTERS, pattern=_PRINTABLE, pattern_rule=_PRINTABLE_RULE),
        "offset": Limits(0, 100_000),
        "exclude_movie_ids": Limits(0, 1_000, Measure.ENTRIES),
        "exclude_movie_ids[]": _ID,
        "history": Limits(0, 500, Measure.ENTRIES, unique=True),
        "history[].movie_id": _ID,
        "history[].rating": Limits(0.5, 5),
        "history[].rate_time": Limits(-62_135_596_800, 253_402_300_799, Measure.SECONDS),  # any Timestamp
        "diversity": Limits(0, 1),
        "explain_features": Limits(0, 100),
        "because_of": Limits(0, 3),
        "filter.genres": _GENRES,
        "filter.genres[]": _GENRE,
        "filter.exclude_genres": _GENRES,
        "filter.exclude_genres[]": _GENRE,
        "filter.min_year": _YEAR,
        "filter.max_year": _YEAR,
        "requests": Limits(1, 100, Measure.ENTRIES),
        "bundle_id": Limits(
            0,
            math.inf,  # the pattern's own
            Measure.CHARACTERS,
            pattern=BUNDLE_ID_PATTERN,
            pattern_rule="must be empty, or 1 to 64 letters, digits, '_' or '-', no sign first",
        ),
    }
)
"""Of requests to the gateway, by field; `[]` stands for any entry of a list. The API document reads them."""

STAGE_LIMITS: Final[Mapping[str, Limits]] = MappingProxyType(
    {
        **LIMITS,  # and at least what the gateway lets through:
        "user_id": Limits(0, _MAX_INT64),
        "limit": _MOVIES_OF_A_LIST,
        "CandidateQuery.limit": Limits(0, 1_000),  # 0: as many as the bundle says
        "RankingQuery.limit": Limits(0, 1_000),  # 0: all movies of the query
        "exclude_movie_ids": Limits(0, 100_000, Measure.ENTRIES),  # what a user has seen
        "queries": Limits(1, 100, Measure.ENTRIES),
        "movie_ids": Limits(1, 1_000, Measure.ENTRIES, unique=True),
        "movie_ids[]": _ID,
        "retrieval_scores": Limits(0, 1_000, Measure.ENTRIES),
        "retrieval_scores[]": _FINITE,
        "transitions_ranks": Limits(0, 1_000, Measure.ENTRIES),
        "transitions_ranks[]": _RANK,
        "popularity_ranks": Limits(0, 1_000, Measure.ENTRIES),
        "popularity_ranks[]": _RANK,
        "probe_movie_ids": Limits(0, 10, Measure.ENTRIES, unique=True),
        "probe_movie_ids[]": _ID,
        "probes": Limits(0, 10, Measure.ENTRIES, unique=True),
        "probes[].movie_id": _ID,
        "probes[].retrieval_score": _FINITE,
        "probes[].retrieval_rank": _ID,
        "probes[].transitions_rank": _RANK,
        "probes[].popularity_rank": _RANK,
    }
)
"""Of requests to a stage. What holds for one message only begins with its name."""

UNLESS: Final[Mapping[str, str]] = MappingProxyType({"user_id": "history"})
"""Fields that a request must have, unless it has the other one. Holds where a request knows both."""

NOT_AFTER: Final[Mapping[str, str]] = MappingProxyType({"min_year": "max_year"})
"""Fields whose value must not exceed the other one's, where both are set."""
