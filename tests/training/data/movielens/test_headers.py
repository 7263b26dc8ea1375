"""Wrong columns, and what editors do to the first line of a file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.data.movielens.files import MOVIES, RATINGS, message, read, write


@pytest.mark.row(46)
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mark", lambda text: "\ufeff" + text),
        ("crlf", lambda text: text.replace("\n", "\r\n")),
        ("both", lambda text: "\ufeff" + text.replace("\n", "\r\n")),
        ("empty lines", lambda text: text + "\n\n"),
        ("no end of line", lambda text: text.rstrip("\n")),
    ],
)
def test_accepts_what_editors_do_to_files(tmp_path: Path, name: str, change: Callable[[str], str]) -> None:
    plain = read(write(tmp_path))
    changed = read(write(tmp_path, ratings=change(RATINGS), movies=change(MOVIES)))
    assert changed[1].digest == plain[1].digest
    assert changed[1].counts == plain[1].counts
    assert changed[0].titles == plain[0].titles


@pytest.mark.row(46)
def test_columns_of_the_old_layout_are_checked_first(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1,10,3,5\n")
    (tmp_path / "movies.dat").write_text("10::Film (1999)\n")
    text = message(tmp_path)
    assert "wrong columns: expected 'UserID::MovieID::Rating::Timestamp', found '1,10,3,5'" in text
    assert "movies.dat" not in text
