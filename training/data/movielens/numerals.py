"""Numbers written as text, as Arrow arrays: null where a text is none."""

from typing import Any, Final

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import compute

MISSING: Final = ["", "NA", "N/A", "NULL", "NaN", "nan", "null"]
_MAX_INT64: Final = str(2**63 - 1)
_DATE: Final = r"^\d{4}-\d\d"
_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$|^[+-]?inf$"


def trimmed(texts: Any) -> Any:
    """The Arrow texts without blanks around them; null where nothing is left."""
    texts = compute.utf8_trim_whitespace(texts)
    return compute.if_else(compute.is_in(texts, pa.array(MISSING)), None, texts)


def whole(texts: Any) -> Any:
    """Texts as an Arrow array of int64; null where one is no whole number or too large."""
    digits = compute.utf8_ltrim(compute.utf8_trim_whitespace(texts), "+")
    digits = compute.replace_substring_regex(digits, r"\.0*$", "")  # a column with gaps, saved by pandas
    fits = compute.or_(
        compute.match_substring_regex(digits, r"^-?\d{1,18}$"),
        compute.and_(
            compute.match_substring_regex(digits, r"^\d{19}$"), compute.less_equal(digits, _MAX_INT64)
        ),
    )
    return compute.cast(compute.if_else(fits, digits, None), pa.int64())


def seconds(texts: Any) -> Any:
    """Arrow texts as int64, Unix seconds; null where one is neither a number nor a time of ISO 8601.

    A time without an offset is in UTC. Fractions of a second are cut off.
    """
    numbers = whole(compute.replace_substring_regex(texts, r"\.\d*$", ""))
    if numbers.null_count == texts.null_count:
        return numbers
    dates = compute.if_else(compute.match_substring_regex(texts, _DATE), texts, None)  # not "today"
    times = pd.to_datetime(dates.to_pandas(), format="ISO8601", errors="coerce", utc=True, cache=False)
    parsed = pa.array(times.dt.tz_convert(None).dt.floor("s"), pa.timestamp("s"))
    return compute.coalesce(numbers, parsed.cast(pa.int64()))


def decimal(texts: Any) -> Any:
    """Arrow texts as float32; null where one is no number."""
    digits = compute.utf8_ltrim(texts, "+")
    fits = compute.match_substring_regex(digits, _NUMBER)
    return compute.cast(compute.if_else(fits, digits, None), pa.float32())
