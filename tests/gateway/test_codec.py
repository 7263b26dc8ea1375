"""What the encoder keeps of the movies that it has shown."""

import pytest

from gateway import codec
from gateway.codec import AnswerEncoder
from gateway.lists.catalogue import Catalogue, Movie
from gateway.movie_api import MoviesAnswer
from tests.gateway.small_world import catalogue


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of the movies that were encoded, in order."""
    rows: list[int] = []
    movie = Catalogue.movie

    def counted(self: Catalogue, row: int) -> Movie:
        rows.append(row)
        return movie(self, row)

    monkeypatch.setattr(Catalogue, "movie", counted)
    return rows


def test_a_movie_is_encoded_once_per_bundle(encoded: list[int]) -> None:
    encoder = AnswerEncoder()
    for one in (catalogue(), catalogue("another")):
        for row in (0, 1, 0):
            assert encoder.movie(MoviesAnswer([row], one)).movie.movie_id == row + 1
    assert encoded == [0, 1, 0, 1]


def test_it_keeps_no_more_than_the_bound(monkeypatch: pytest.MonkeyPatch, encoded: list[int]) -> None:
    monkeypatch.setattr(codec, "MAX_ENTRIES", 2)
    encoder, one = AnswerEncoder(), catalogue()
    for row in (0, 1, 2, 2, 0):
        assert encoder.movie(MoviesAnswer([row], one)).movie.movie_id == row + 1
    assert encoded == [0, 1, 2, 0]
