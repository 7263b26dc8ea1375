"""Rules of request fields. A request is checked whole, and every broken rule is named."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Final

from serving.errors import FieldViolation, InvalidArgumentError
from serving.rpc.messages import FilterMessage, RatedMovieMessage

MAX_QUERIES: Final = 100
"""Users in one call of a stage."""
MAX_LIMIT: Final = 1_000
"""Movies in one list of a stage."""
MAX_EXCLUDED: Final = 100_000
"""Excluded movies that a stage takes: what a user has seen."""
MAX_EXPLAIN_FEATURES: Final = 100
"""Contributions per movie."""
MAX_CONTRIBUTIONS: Final = 20_000
"""Of all queries of a call: movies to return times contributions to each, summed up."""
MAX_BECAUSE_OF: Final = 3
"""Likes named with a candidate."""
MAX_PROBES: Final = 10
"""Movies asked about beside a list."""
MAX_HISTORY: Final = 500
"""Ratings in a history."""
MIN_STARS: Final = 0.5
"""Lowest rating."""
MAX_STARS: Final = 5.0
"""Highest rating."""
MIN_TIME: Final = -62_135_596_800
"""Start of the year 1, Unix seconds: the first that a Timestamp may be."""
MAX_TIME: Final = 253_402_300_799
"""End of the year 9999: the last."""
MAX_FILTER_GENRES: Final = 20
"""Genres in one list of a filter."""
MAX_GENRE_CHARACTERS: Final = 40
"""Length of a genre's name."""
MIN_YEAR: Final = 1870
"""First year that a filter may name."""
MAX_YEAR: Final = 2200
"""Last year that a filter may name."""


class Violations:
    """Collects broken rules, to name all of them at once."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def require(self, holds: bool, field: str, rule: str) -> None:  # noqa: FBT001  # reads as a sentence
        """Notes that `field` breaks `rule`, unless it `holds`."""
        if not holds:
            self._found.append(FieldViolation(field, rule))

    def raise_any(self) -> None:
        """Ends the check.

        Raises:
            InvalidArgumentError: a rule was broken.
        """
        if self._found:
            raise InvalidArgumentError(self._found)


def check_range(
    violations: Violations, field: str, value: float, *, low: float, high: float, unit: str = ""
) -> None:
    """A number of `low` to `high`, both included; NaN is in no range."""
    violations.require(low <= value <= high, field, f"must be {low:g} to {high:g}{unit}")


def check_query_count(violations: Violations, count: int) -> None:
    """The queries of one call to a stage."""
    check_range(violations, "queries", count, low=1, high=MAX_QUERIES, unit=" queries")


def check_user_id(violations: Violations, field: str, user_id: int) -> None:
    """A user of a stage's query; 0 stands for none."""
    violations.require(user_id >= 0, field, "must be at least 1, or 0 when only the history counts")


def check_movie_ids(violations: Violations, field: str, ids: Sequence[int], *, most: int) -> None:
    """At most `most` ids, each at least 1."""
    violations.require(
        len(ids) <= most and (not ids or min(ids) >= 1), field, f"must be at most {most} ids, each at least 1"
    )


def check_unique(violations: Violations, field: str, values: Sequence[object]) -> None:
    """No value twice."""
    violations.require(len(set(values)) == len(values), field, "must not repeat a value")


def check_finite(violations: Violations, field: str, values: Sequence[float]) -> None:
    """No NaN, no infinity."""
    violations.require(all(map(math.isfinite, values)), field, "must be finite")


def check_filter(violations: Violations, field: str, message: FilterMessage) -> None:
    """A filter of any package."""
    for name, genres in (("genres", message.genres), ("exclude_genres", message.exclude_genres)):
        violations.require(
            len(genres) <= MAX_FILTER_GENRES,
            f"{field}.{name}",
            f"must be at most {MAX_FILTER_GENRES} genres",
        )
        check_unique(violations, f"{field}.{name}", genres)
        violations.require(
            all(_is_genre(genre) for genre in genres),
            f"{field}.{name}",
            f"must each be 1 to {MAX_GENRE_CHARACTERS} characters, none a control character",
        )
    if message.HasField("min_year"):
        check_range(violations, f"{field}.min_year", message.min_year, low=MIN_YEAR, high=MAX_YEAR)
    if message.HasField("max_year"):
        check_range(violations, f"{field}.max_year", message.max_year, low=MIN_YEAR, high=MAX_YEAR)
        if message.HasField("min_year"):
            violations.require(
                message.min_year <= message.max_year, f"{field}.min_year", "must not be after max_year"
            )


def check_history(violations: Violations, field: str, messages: Sequence[RatedMovieMessage]) -> None:
    """A history of any package. Its entries are looked at only when it is not too long."""
    violations.require(len(messages) <= MAX_HISTORY, field, f"must be at most {MAX_HISTORY} ratings")
    if len(messages) > MAX_HISTORY:
        return
    check_unique(violations, field, [message.movie_id for message in messages])
    for place, message in enumerate(messages):
        violations.require(message.movie_id >= 1, f"{field}[{place}].movie_id", "must be at least 1")
        if message.HasField("rating"):
            check_range(violations, f"{field}[{place}].rating", message.rating, low=MIN_STARS, high=MAX_STARS)
        if message.HasField("rate_time"):
            violations.require(
                MIN_TIME <= message.rate_time.seconds <= MAX_TIME,
                f"{field}[{place}].rate_time",
                "must be in the years 1 to 9999, its seconds since 1970",
            )


def _is_genre(name: str) -> bool:
    return 1 <= len(name) <= MAX_GENRE_CHARACTERS and not any(unicodedata.category(c) == "Cc" for c in name)
