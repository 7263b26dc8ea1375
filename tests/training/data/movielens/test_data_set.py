"""A whole data set: all that is wrong at once, and a real one."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.movielens.files import MOVIES, RATINGS_HEADER, message, read, write


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    assert "none of the 1 ratings is left" in message(write(tmp_path, RATINGS_HEADER + "9,99,3.0,1\n"))


def test_lines_of_the_old_layout_count_from_one(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::10::3::5\n1:2::10::3::5\n1::10::3\n")
    (tmp_path / "movies.dat").write_text("10::Film (1999)\n11::Film (1999)::Drama\n")
    text = message(tmp_path)
    assert "ratings.dat line 2: UserID must be a whole number" in text
    assert "ratings.dat line 3: must have 4 fields" in text
    assert "movies.dat line 1: wrong number of fields" in text


@pytest.mark.row(46)
def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    rows = "x,10,3.0,1\n1,10,3.0,today\n1,10,9.0,1\n1,10\n1,0,3.0,1\n"
    text = message(
        write(tmp_path, RATINGS_HEADER + rows, MOVIES + "0,Title,Drama\n", links="movieId,tmdbId\n1,x\n")
    )
    assert text.splitlines()[0] == f"The data set in {tmp_path} cannot be used:"
    assert [line.strip() for line in text.splitlines()[1:]] == [
        "movies.csv line 5: movieId must be a whole number from 1 to 2147483647",
        "links.csv line 2: tmdbId must be a whole number or empty",
        "ratings.csv line 5: must have 4 fields",
        "ratings.csv line 3: timestamp must be whole seconds or a time of ISO 8601",
        "ratings.csv line 2: userId must be a whole number from 1",
        "ratings.csv line 6: movieId must be a whole number from 1 to 2147483647",
        "ratings.csv line 4: rating must be 0.5 to 5; another scale is told by --rating-scale LOW:HIGH",
    ]


def test_reads_ml_latest_small() -> None:
    folder = os.environ.get("MOVIEREC_DATA_DIR")
    if not folder or Path(folder).name != "ml-latest-small":
        pytest.skip("MOVIEREC_DATA_DIR does not name ml-latest-small")
    table, cleaned = read(Path(folder))
    assert len(cleaned.ratings.users) == 610
    assert len(cleaned.ratings) == cleaned.counts.read == cleaned.counts.kept == 100_836
    assert len(table.movies.ids) == 9_742
    assert np.count_nonzero(table.tmdb_ids) == 9_734
    titles = dict(zip(table.movies.ids.ids.tolist(), table.titles, strict=True))
    assert titles[2571] == "The Matrix"
    assert not any(", The" in title and title.endswith(", The") for title in table.titles)
    assert np.count_nonzero(table.movies.years == 0) == 12
    assert cleaned.tag("ml-latest-small") == "ml-latest-small-47400542"
