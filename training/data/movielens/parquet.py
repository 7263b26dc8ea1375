"""Ratings in parquet: a file, or a folder of files as Spark writes them, partitioned or not."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import dataset, types

from training.data.movielens.problems import Problems, lines_in_words


def parquet_names(path: Path) -> list[str]:
    """Names of the columns of the first file, and of those that folders are named by.

    Raises:
        pa.ArrowInvalid: it is no parquet.
    """
    names: list[str] = _dataset(path).schema.names
    return names


def read_parquet(
    path: Path, columns: Sequence[str], problems: Problems
) -> tuple[Any, Callable[[Sequence[int]], str]]:
    """User, movie, rating and time, where there is one, of each row as an Arrow table.

    Files that cannot be read, or have columns of a wrong type, are left out and told to `problems`.

    Returns:
        The table, and what to call rows of it, counted from 1: ` row 7`, or ` row 7 of part-0.parquet`.
    """
    readers = dict(zip(columns, (_whole, _whole, _number, _seconds), strict=False))
    schema = pa.schema(zip(columns, (pa.int64(), pa.int64(), pa.float32(), pa.int64()), strict=False))
    tables, files = [], []
    for fragment in sorted(_dataset(path).get_fragments(), key=lambda one: str(one.path)):
        file = str(Path(fragment.path).relative_to(path)) if path.is_dir() else ""
        try:
            tables.append(_table(fragment, readers).cast(schema))
            files.append(file)
        except (pa.ArrowException, OSError, _TypeError) as error:
            problems.add("/".join(filter(None, (path.name, file))), str(error).partition("\n")[0])
    starts = np.cumsum([0, *(table.num_rows for table in tables)])

    def in_words(rows: Sequence[int]) -> str:
        def name(row: int) -> str:
            place = int(np.searchsorted(starts, row, side="left")) - 1
            return f"{row - starts[place]} of {files[place]}" if files[place] else str(row)

        return lines_in_words(rows, word="row", name=name)

    return pa.concat_tables([schema.empty_table(), *tables]), in_words


class _TypeError(Exception):
    """A column is of a type that its values cannot be read from."""


def _dataset(path: Path) -> Any:
    # Folders may be named `column=value`.
    return dataset.dataset(str(path), format="parquet", partitioning="hive")


def _table(fragment: Any, readers: Mapping[str, Callable[[str, Any], Any]]) -> Any:
    in_file = set(fragment.physical_schema.names)
    in_folders = dataset.get_partition_keys(fragment.partition_expression)
    missing = [name for name in readers if name not in in_file and name not in in_folders]
    if missing:
        raise _TypeError(f"has no column {', '.join(missing)}")
    table = fragment.to_table(columns=[name for name in readers if name in in_file])
    for name in readers:
        if name not in in_file:
            table = table.append_column(name, pa.repeat(in_folders[name], fragment.count_rows()))
    return pa.table({name: read(name, table[name]) for name, read in readers.items()})


def _whole(name: str, column: Any) -> Any:
    if not types.is_integer(column.type):
        raise _TypeError(f"{name} must be a column of whole numbers, not of {column.type}")
    return column


def _number(name: str, column: Any) -> Any:
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_decimal(column.type)):
        raise _TypeError(f"{name} must be a column of numbers, not of {column.type}")
    return column.cast(pa.float32(), safe=False)  # as text is rounded to it


def _seconds(name: str, column: Any) -> Any:
    """Unix seconds; fractions are cut off, and a time without a zone is in UTC, as in text."""
    if types.is_timestamp(column.type) or types.is_date(column.type):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    if not types.is_integer(column.type):
        raise _TypeError(f"{name} must be a column of whole seconds or of times, not of {column.type}")
    return column
