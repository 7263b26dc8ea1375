"""The rules that each field must keep."""

from typing import Final

import numpy as np
import pandas as pd
from pandera.errors import SchemaErrors
from pandera.pandas import Check, DataFrameSchema

MAX_MOVIE_ID: Final = 2**31 - 1
"""movie_id is an int32 on the wire."""

MAX_TIME: Final = 2**32 - 1
"""Unix seconds, in the year 2106. What is beyond counts something else, as milliseconds."""

MAX_TITLE_CHARACTERS: Final = 1_000
"""Of a raw title: several times the longest of MovieLens."""

_CONTROL: Final = r"[\x00-\x08\x0e-\x1f\x7f-\x9f]"  # but for those that count as blanks


def failures_of(schema: DataFrameSchema, frame: pd.DataFrame) -> dict[str, list[int]]:
    """The rules that the frame breaks, and the lines (its index) that break them."""
    try:
        schema.validate(frame, lazy=True, inplace=True)  # no check of ours converts a column
    except SchemaErrors as errors:
        groups = errors.failure_cases.groupby(["column", "check"], sort=False)["index"]
        return {f"{column} {rule}": sorted(map(int, lines)) for (column, rule), lines in groups}
    return {}


def _within(low: float, high: float, rule: str) -> Check:
    return Check.in_range(low, high, error=rule, ignore_na=False)  # NaN is within nothing


USER_ID: Final = _within(1, np.inf, "must be a whole number from 1")
MOVIE_ID: Final = _within(1, MAX_MOVIE_ID, f"must be a whole number from 1 to {MAX_MOVIE_ID}")
ONE_ROW: Final = Check(  # ids below 1 break another rule
    lambda ids: (ids < 1) | ~ids.duplicated(keep=False), error="must be there only once"
)
TITLE: Final = (
    Check(lambda texts: texts.str.strip() != "", error="must not be empty"),
    Check.str_length(
        max_value=MAX_TITLE_CHARACTERS, error=f"must have at most {MAX_TITLE_CHARACTERS} characters"
    ),
    Check(lambda texts: ~texts.str.contains(_CONTROL), error="must not hold control characters"),
)
TMDB_ID: Final = _within(0, MAX_MOVIE_ID, "must be a whole number or empty")
TIME: Final = _within(0, MAX_TIME, f"must be whole seconds from 0 to {MAX_TIME}, or a time of ISO 8601")


def value_on(scale: tuple[float, float], advice: str = "") -> Check:
    """The rule of ratings between two bounds, both included; `advice` follows it in words."""
    low, high = scale
    return _within(low, high, f"must be {low:g} to {high:g}{advice}")
