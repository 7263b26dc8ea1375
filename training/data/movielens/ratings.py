"""The file of ratings: tens of millions of lines. A fast way if it is as it should be, and a careful one."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import structlog
from pandera.pandas import Column, DataFrameSchema
from pyarrow import compute
from pyarrow import csv as arrow_csv

from serving.ids import Ids
from training.data.movielens.headers import header_of
from training.data.movielens.layouts import Layout
from training.data.movielens.numerals import MISSING, decimal, seconds, trimmed, whole
from training.data.movielens.parquet import read_parquet
from training.data.movielens.problems import Problems, lines_in_words
from training.data.movielens.rules import MOVIE_ID, TIME, USER_ID, failures_of, value_on

MAX_BAD_SHARE: Final = 0.001
"""Share of ratings that may be out of range, and are dropped; beyond it something else is wrong."""

MOVIELENS_SCALE: Final = (0.5, 5.0)
"""Lowest and highest rating, in stars."""

_TYPES: Final = (pa.int64(), pa.int64(), pa.float32(), pa.int64())
_TEXTS: Final = (pa.string(),) * len(_TYPES)
_MISSING: Final = (0, 0, np.nan, -1)
"""What stands for a missing id, value and time; no rule lets any of them through."""

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RatingColumns:
    """Ratings in the order of the file. Arrays of one length."""

    user_ids: Ids
    movie_ids: Ids
    stars: npt.NDArray[np.float32]
    times: npt.NDArray[np.int64]

    def where(self, mask: npt.NDArray[np.bool_]) -> "RatingColumns":
        """The ratings that `mask` keeps."""
        return RatingColumns(**{name: array[mask] for name, array in vars(self).items()})


def read_ratings(
    path: Path, layout: Layout, scale: tuple[float, float] | None, problems: Problems
) -> tuple[RatingColumns, int]:
    """The ratings that are in range, and how many are not. What is not tolerable goes to `problems`.

    Without a column of times, all times are 0. `scale` is the lowest and highest rating; None: as MovieLens.
    """
    advice = "; another scale is told by --rating-scale LOW:HIGH" if scale is None else ""
    scale = scale or MOVIELENS_SCALE
    in_words: Callable[[Sequence[int]], str] = lines_in_words
    if not layout.separator:
        table, in_words = read_parquet(path, layout.columns, problems)
        lines = np.arange(1, 1 + table.num_rows)
    else:
        try:
            table = _read_fast(path, layout)
            first = 2 if layout.has_header else 1
            lines = np.arange(first, first + table.num_rows)
        except pa.ArrowInvalid:  # does not say where, or what else
            table, lines = _read_arrow_carefully(path, layout, problems)
    frame = _as_frame(table, layout, lines)
    del table
    pa.default_memory_pool().release_unused()  # what was read would stay in it, as large as the frame
    user, movie, value, *moment = layout.columns
    if frame.empty:
        problems.add(path.name, "there are no ratings in it")

    ids = DataFrameSchema({user: Column(checks=USER_ID), movie: Column(checks=MOVIE_ID)})
    for rule, where in failures_of(ids, frame).items():
        problems.add(f"{path.name}{in_words(where)}", rule)

    ranges = DataFrameSchema(
        {
            value: Column(nullable=True, checks=value_on(scale, advice)),
            **{time: Column(checks=TIME) for time in moment},
        }
    )
    failures = failures_of(ranges, frame)
    bad_lines = sorted(set().union(*failures.values()))
    if len(bad_lines) > MAX_BAD_SHARE * len(frame):
        for rule, where in failures.items():
            problems.add(f"{path.name}{in_words(where)}", rule)
    elif bad_lines:
        for rule, where in failures.items():
            _logger.warning("ratings dropped", error=f"{path.name}{in_words(where)}: {rule}")
        frame = frame[~frame.index.isin(bad_lines)]
    columns = RatingColumns(
        user_ids=frame[user].to_numpy(),
        movie_ids=frame[movie].to_numpy(),
        stars=_stars(frame[value].to_numpy(), scale),
        times=frame[moment[0]].to_numpy() if moment else np.zeros(len(frame), np.int64),
    )
    return columns, len(bad_lines)


def _stars(values: npt.NDArray[np.float32], scale: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Ratings on a scale as stars."""
    if scale == MOVIELENS_SCALE:
        return values
    low, high = MOVIELENS_SCALE
    share = (values.astype(np.float64) - scale[0]) / (scale[1] - scale[0])
    return (low + share * (high - low)).astype(np.float32)


def _read_fast(path: Path, layout: Layout) -> Any:
    """The columns as an Arrow table, one row a line. Raises `ArrowInvalid` if anything is unusual in it."""
    try:
        return _read_arrow(path, layout, _TYPES)
    except pa.ArrowInvalid:
        if len(layout.columns) < len(_TYPES):
            raise
    table = _read_arrow(path, layout, (*_TYPES[:-1], pa.string()))
    times = seconds(trimmed(table[layout.columns[-1]]))
    if times.null_count:
        raise pa.ArrowInvalid("some times cannot be read")
    return table.set_column(len(_TYPES) - 1, layout.columns[-1], times)


def _read_arrow(path: Path, layout: Layout, types: Sequence[Any], *, skip: Any = None) -> Any:
    """The columns as an Arrow table, one row a line; an empty line is a row of nulls.

    What does not fit `types` raises `ArrowInvalid`, and so does a line with the wrong number of fields,
    unless `skip` is there to be told of it.
    """
    source: Any = str(path)
    separator = layout.separator
    if len(separator) > 1 or skip is not None:
        separator = "\t" if len(separator) > 1 else separator  # Arrow knows those of one character
        content = path.read_bytes().replace(layout.separator.encode(), separator.encode())
        if skip is not None:  # not to fail for a stray byte
            content = content.decode(errors="replace").encode()
        source = io.BytesIO(content)
    return arrow_csv.read_csv(
        source,
        read_options=arrow_csv.ReadOptions(
            column_names=header_of(path) if layout.has_header else layout.columns,
            skip_rows=int(layout.has_header),
            use_threads=skip is None,  # threads do not know the number of a line
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=separator, ignore_empty_lines=False, invalid_row_handler=skip
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=layout.columns,
            column_types=dict(zip(layout.columns, types, strict=False)),
            null_values=MISSING,
            strings_can_be_null=True,
        ),
    )


def _read_arrow_carefully(
    path: Path, layout: Layout, problems: Problems
) -> tuple[Any, npt.NDArray[np.int64]]:
    """The same table and the line of each row; without the lines that cannot be read, which are problems."""
    skipped: list[int] = []

    def skip(row: Any) -> str:
        skipped.append(row.number)
        return "skip"

    try:
        texts = _read_arrow(path, layout, _TEXTS, skip=skip)
    except pa.ArrowInvalid as error:
        if path.read_bytes().count(b"\n") > 1:  # else there is nothing below the header
            problems.add(path.name, f"cannot be read: {error}")
        texts = pa.table([pa.array([], pa.string())] * len(layout.columns), names=layout.columns)
    if skipped:
        n_fields = len(header_of(path)) if layout.has_header else len(layout.columns)
        problems.add(path.name, f"must have {n_fields} fields", skipped)
    first = 2 if layout.has_header else 1
    lines = np.arange(first, first + texts.num_rows + len(skipped))
    lines = np.delete(lines, np.array(skipped, dtype=np.int64) - first)

    user, movie, value, *moment = layout.columns
    columns = {user: whole(texts[user]), movie: whole(texts[movie])}
    readable = np.ones(lines.size, dtype=np.bool_)
    for name, read, rule in (
        (value, decimal, "a number"),
        *((time, seconds, "whole seconds or a time of ISO 8601") for time in moment),
    ):
        present = trimmed(texts[name])
        columns[name] = read(present)
        wrong = compute.and_(present.is_valid(), columns[name].is_null()).to_numpy()
        if wrong.any():
            problems.add(path.name, f"{name} must be {rule}", lines[wrong].tolist())
        readable &= ~wrong
    return pa.table(columns).filter(readable), lines[readable]


def _as_frame(table: Any, layout: Layout, lines: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Without empty lines of text; a missing id is 0, a value NaN, a time -1. Indexed by line."""
    fills = dict(zip(layout.columns, _MISSING, strict=False))
    missing = [table[name].is_null().to_numpy() for name in layout.columns if table[name].null_count]
    columns = {name: table[name].fill_null(fill).to_numpy() for name, fill in fills.items()}
    frame = pd.DataFrame(columns, index=lines, copy=False)
    has_empty_lines = bool(layout.separator) and len(missing) == len(fills)
    return frame[~np.logical_and.reduce(missing)] if has_empty_lines else frame
