"""Ratings in parquet: the same arrays as from text, and the same words for what is wrong."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import dataset

from training.data.datasets import DatasetFolder
from training.data.movielens.data_set import read_data_set
from training.data.movielens.dialect import Dialect
from training.data.movielens.problems import DataError
from training.data.preprocessed import preprocess

RATINGS = pd.DataFrame(
    {
        "userId": [1, 1, 2, 3, 3, 3],
        "movieId": [10, 20, 10, 10, 20, 30],
        "rating": [4.0, 2.5, 5.0, 0.5, 3.0, 4.5],
        "timestamp": [100, 200, 150, 300, 250, 50],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = ["movieId,title,genres", *(f"{movie},Film {movie} (2000),Drama" for movie in (10, 20, 30))]
    (tmp_path / "movies.csv").write_text("\n".join(lines))
    return tmp_path


def write(folder: Path, *frames: pd.DataFrame, by: list[str] | None = None) -> None:
    """Each frame as a file, or as a file per value of the columns `by`."""
    for place, frame in enumerate(frames):
        dataset.write_dataset(
            pa.Table.from_pandas(frame, preserve_index=False),
            folder / "ratings.parquet",
            format="parquet",
            partitioning=by,
            partitioning_flavor=None if by is None else "hive",
            basename_template=f"part-{place}-{{i}}.parquet",
            existing_data_behavior="overwrite_or_ignore",
        )
        (folder / "ratings.parquet" / "_SUCCESS").touch()  # as Spark leaves it


def digest(folder: Path, dialect: Dialect | None = None) -> str:
    _, cleaned = read_data_set(folder, dialect or Dialect(), now=1_000)
    return cleaned.digest


@pytest.fixture
def expected(folder: Path) -> str:
    """What the same ratings give as text."""
    RATINGS.to_csv(folder / "ratings.csv", index=False)
    found = digest(folder)
    (folder / "ratings.csv").unlink()
    return found


@pytest.mark.parametrize("one_file", [False, True])
def test_files_are_read_as_text_is(folder: Path, expected: str, *, one_file: bool) -> None:
    if one_file:
        RATINGS.to_parquet(folder / "ratings.parquet", index=False)
    else:
        write(folder, RATINGS[4:], RATINGS[:4])
    assert digest(folder) == expected


@pytest.mark.parametrize("by", [["movieId"], ["year"]])
def test_partitions_are_read_as_text_is(folder: Path, expected: str, by: list[str]) -> None:
    write(folder, RATINGS.assign(year=2020 + RATINGS["userId"] % 2), by=by)
    assert digest(folder) == expected


def test_other_types_that_mean_the_same_are_read_as_text_is(folder: Path, expected: str) -> None:
    times = pd.to_datetime(RATINGS["timestamp"] * 1_000 + 999, unit="ms")
    write(folder, RATINGS.astype({"userId": "int32", "rating": "float32"}).assign(timestamp=times))
    assert digest(folder) == expected


def told(folder: Path) -> list[str]:
    with pytest.raises(DataError) as raised:
        digest(folder)
    return [line.strip() for line in str(raised.value).splitlines()[1:]]


def test_a_rule_that_is_broken_is_told_with_file_and_row(folder: Path) -> None:
    file, other_scale = "part-1-0.parquet", "another scale is told by --rating-scale LOW:HIGH"
    write(folder, RATINGS, RATINGS.assign(rating=[4, 4, 9, 4, 4, 4], userId=[1, 1, 1, 1, 0, 0]))
    assert told(folder) == [
        f"ratings.parquet rows 5 of {file}, 6 of {file}: userId must be a whole number from 1",
        f"ratings.parquet row 3 of {file}: rating must be 0.5 to 5; {other_scale}",
    ]


@pytest.mark.parametrize(
    ("column", "values", "rule"),
    [
        ("movieId", [10, -1, 10, 10, 10, 10], "movieId must be a whole number from 1 to 2147483647"),
        ("userId", pd.array([1, None, 2, 3, 3, 3], dtype="Int64"), "userId must be a whole number from 1"),
    ],
    ids=["out of range", "missing"],
)
def test_a_row_of_the_only_file_is_told_without_its_name(
    folder: Path, column: str, values: Any, rule: str
) -> None:
    RATINGS.assign(**{column: values}).to_parquet(folder / "ratings.parquet", index=False)
    assert told(folder) == [f"ratings.parquet row 2: {rule}"]


@pytest.mark.parametrize(
    ("column", "values", "rule"),
    [
        ("userId", list("abcdef"), "userId must be a column of whole numbers, not of string"),
        ("rating", list("abcdef"), "rating must be a column of numbers, not of string"),
        ("timestamp", [0.5] * 6, "timestamp must be a column of whole seconds or of times, not of double"),
    ],
)
def test_a_column_of_a_wrong_type_is_told(folder: Path, column: str, values: list[object], rule: str) -> None:
    table = pa.Table.from_pandas(RATINGS, preserve_index=False)
    place = table.schema.get_field_index(column)
    dataset.write_dataset(
        table.set_column(place, column, pa.array(values)), folder / "ratings.parquet", format="parquet"
    )
    assert told(folder)[0] == f"ratings.parquet/part-0.parquet: {rule}"


def test_columns_that_are_not_there_are_told_before_all_else(folder: Path) -> None:
    write(folder, RATINGS.rename(columns={"movieId": "item"}))
    (line,) = told(folder)
    assert line.startswith(
        "ratings.parquet: wrong columns: expected userId, movieId, rating, timestamp; found userId"
    )


def test_a_file_without_a_column_is_told(folder: Path) -> None:
    write(folder, RATINGS, RATINGS.drop(columns="rating"))
    assert told(folder) == ["ratings.parquet/part-1-0.parquet: has no column rating"]


def test_a_file_that_is_no_parquet_is_told(folder: Path) -> None:
    write(folder, RATINGS)
    (folder / "ratings.parquet" / "part-9.parquet").write_text("userId,movieId\n1,1\n")
    (line,) = told(folder)
    assert line.startswith("ratings.parquet/part-9.parquet: ")


@pytest.mark.parametrize("name", ["ratings.parquet", "ratings.parquet/a.parquet"])
def test_a_first_file_that_is_no_parquet_is_told(folder: Path, name: str) -> None:
    if "/" in name:
        write(folder, RATINGS)
    (folder / name).write_text("userId,movieId\n1,1\n")
    (line,) = told(folder)
    assert line.startswith("ratings.parquet: ")
    assert str(folder / name) in line


def test_a_folder_without_files_has_no_columns(folder: Path) -> None:
    (folder / "ratings.parquet").mkdir()
    (line,) = told(folder)
    assert line.endswith("; found none")


def test_another_file_in_the_folder_is_another_data_set(folder: Path, tmp_path: Path) -> None:
    write(folder, RATINGS[:4])
    source = DatasetFolder("mine", folder, "here", Dialect())
    first = preprocess(source, tmp_path / "root")
    assert preprocess(source, tmp_path / "root").reused
    write(folder, RATINGS[:4], RATINGS[4:])
    second = preprocess(source, tmp_path / "root")
    assert not second.reused
    assert second.clean.counts.kept == first.clean.counts.kept + 2
