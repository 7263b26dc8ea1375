"""The generated data set: the same every time, odd where real ones are, and worth learning from."""

import csv
from pathlib import Path

import numpy as np
import pytest

from serving.ratings import Ratings
from training.data.generated import N_MOVIES, N_USERS, SAMPLE_FILES, write_sample
from training.data.movielens.cleaning import CleanRatings
from training.data.movielens.data_set import read_data_set
from training.data.movielens.movies import MovieTable


@pytest.fixture(scope="module")
def sample(generated: Path) -> tuple[MovieTable, CleanRatings]:
    return read_data_set(generated)


def test_the_same_seed_gives_the_same_files_and_another_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.generated.N_USERS", 20)
    written = []
    for folder, seed in ((tmp_path / "one", 0), (tmp_path / "again", 0), (tmp_path / "other", 1)):
        folder.mkdir()
        write_sample(folder, seed=seed)
        written.append([(folder / name).read_bytes() for name in SAMPLE_FILES])
    one, again, other = written
    assert one == again
    assert one[0] != other[0]


def test_it_is_as_large_as_promised_and_clean(sample: tuple[MovieTable, CleanRatings]) -> None:
    table, cleaned = sample
    assert len(cleaned.ratings.users) == N_USERS
    assert len(table.movies.ids) == N_MOVIES
    assert 60_000 <= cleaned.counts.kept <= 100_000
    assert cleaned.counts.kept == cleaned.counts.read
    assert cleaned.counts.future_times == 0


def test_it_has_the_oddities_of_real_data(sample: tuple[MovieTable, CleanRatings], generated: Path) -> None:
    table, cleaned = sample
    counts = np.bincount(cleaned.ratings.movie_rows, minlength=N_MOVIES)
    assert np.count_nonzero(counts == 0) >= 15
    assert np.count_nonzero(table.movies.years == 0) == 8
    assert np.count_nonzero(table.movies.genre_bits == 1) == 8
    assert len(set(table.titles)) > 0.99 * N_MOVIES
    assert any(title.startswith("The ") for title in table.titles)
    with (generated / "movies.csv").open(newline="") as file:
        raw = [row["title"] for row in csv.DictReader(file)]
    assert any(", The (" in title for title in raw)
    assert any(", An (" in title for title in raw)
    assert not any(", A (" in title and title[0] in "AEIOU" for title in raw)


def test_ratings_are_halves_around_three_and_a_half(sample: tuple[MovieTable, CleanRatings]) -> None:
    values = sample[1].ratings.values
    assert set(np.unique(values)) <= set(np.arange(0.5, 5.5, 0.5))
    assert values.mean() == pytest.approx(3.5, abs=0.1)


def test_popularity_has_a_long_tail(sample: tuple[MovieTable, CleanRatings]) -> None:
    counts = np.sort(np.bincount(sample[1].ratings.movie_rows, minlength=N_MOVIES))[::-1]
    assert counts[: N_MOVIES // 10].sum() > 0.3 * counts.sum()
    assert counts[N_MOVIES // 2 :].sum() < 0.2 * counts.sum()


def test_nobody_rates_a_movie_before_its_year(sample: tuple[MovieTable, CleanRatings]) -> None:
    table, cleaned = sample
    rated = 1970 + cleaned.ratings.times / (365.25 * 86_400)
    assert np.all(table.movies.years[cleaned.ratings.movie_rows] <= rated)


def test_one_movie_leads_to_the_next(sample: tuple[MovieTable, CleanRatings]) -> None:
    """Pairs that follow each other come back in other users' histories; pairs 20 places apart do not."""
    ratings = sample[1].ratings
    assert repeats(ratings, gap=1) > 1.5 * repeats(ratings, gap=20)


def repeats(ratings: Ratings, gap: int) -> float:
    """Mean number of times that a pair of movies `gap` places apart is there."""
    users, movies = ratings.user_rows(), ratings.movie_rows.astype(np.int64)
    pairs = (movies[:-gap] * N_MOVIES + movies[gap:])[users[:-gap] == users[gap:]]
    _, counts = np.unique(pairs, return_counts=True)
    return float((counts**2).sum() / counts.sum())
