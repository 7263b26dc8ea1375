"""A data set of invented movies and ratings, for machines that cannot reach the real ones.

It has what recommenders live on: tastes, popularity with a long tail, and sessions in which one movie
leads to the next. What is measured on it says nothing of real movies.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.movies import MOVIELENS_GENRES, NO_GENRE

VERSION: Final = 1
"""Counts up when the same seed gives another data set."""

SAMPLE_FILES: Final = ("ratings.csv", "movies.csv", "links.csv")

N_USERS: Final = 600
N_MOVIES: Final = 1_200
_MOST_RATINGS: Final = 400

_Floats = npt.NDArray[np.float64]

TASTES: Final = 12  # dimensions of what users like and movies offer
_MOVIES_PER_SHELF: Final = 48
_SHELF_PULL: Final = 120.0  # how much more likely a movie of the same shelf is to be next
_FIRST_YEAR: Final = 1930
_LAST_YEAR: Final = 2018
_START: Final = 852_076_800  # 1 January 1997, UTC
_END: Final = 1_546_300_800  # 1 January 2019
_DAY: Final = 86_400
_SECONDS_PER_YEAR: Final = 365.25 * _DAY

_NEVER_RATED: Final = 15
_WITHOUT_YEAR: Final = 8
_WITHOUT_GENRES: Final = 8

_ADJECTIVES: Final = (
    *("Amber", "Ancient", "Bitter", "Borrowed", "Broken", "Burning", "Careless", "Crimson", "Crooked"),
    *("Distant", "Electric", "Empty", "Endless", "Faithful", "Fallen", "Forgotten", "Frozen", "Gentle"),
    *("Gilded", "Hidden", "Hollow", "Hungry", "Invisible", "Last", "Lonely", "Lucky", "Midnight", "Nameless"),
    *("Northern", "Paper", "Patient", "Quiet", "Reluctant", "Restless", "Scarlet", "Second", "Secret"),
    *("Silent", "Silver", "Sleepless", "Stolen", "Sudden", "Tender", "Unwritten", "Velvet", "Wandering"),
)
_NOUNS: Final = (
    *("Accordion", "Alibi", "Archive", "Astronomer", "Bakery", "Bridge", "Cartographer", "Carousel"),
    *("Compass", "Conductor", "Courier", "Detour", "Dynasty", "Echo", "Expedition", "Ferry", "Gardener"),
    *("Harbour", "Horizon", "Inheritance", "Island", "Juggler", "Kingdom", "Lantern", "Librarian"),
    *("Lighthouse", "Machine", "Meridian", "Mirror", "Monsoon", "Orchard", "Orbit", "Parade", "Passenger"),
    *("Postcard", "Promise", "Railway", "Reunion", "Saboteur", "Season", "Signal", "Snowfall", "Stranger"),
    *("Summer", "Tailor", "Telescope", "Tide", "Verdict", "Violin", "Voyage", "Watchman", "Winter"),
)
_ARTICLES: Final = ("", "The", "A")
_ARTICLE_SHARES: Final = (0.55, 0.35, 0.1)


@dataclass(frozen=True)
class SampleMovies:
    """What the generator knows of its movies, ascending movie_id."""

    ids: npt.NDArray[np.int64]
    years: npt.NDArray[np.int64]
    titles: list[str]
    genres: list[str]
    tastes: _Floats
    """Shape (n_movies, TASTES); unit vectors."""
    shelves: npt.NDArray[np.int64]
    """Which movies stand together, from 0: a series, a list. One leads to the next."""
    appeal: _Floats
    """Log of how often a movie is watched, tastes apart; -inf for never."""
    quality: _Floats
    """Stars above or below the mean, tastes apart."""


@dataclass(frozen=True)
class SampleUsers:
    """What the generator knows of its users, ascending user_id."""

    tastes: _Floats
    """Shape (n_users, TASTES); unit vectors."""
    mildness: _Floats
    """Stars that a user gives above or below the mean."""
    n_ratings: npt.NDArray[np.int64]


def write_sample(folder: Path, *, seed: int = 0) -> None:
    """Writes ratings.csv, movies.csv and links.csv, laid out as MovieLens does, into an existing folder."""
    rng = np.random.default_rng(seed)
    movies = draw_movies(rng, N_MOVIES)
    users = _users(rng)
    times, is_first = draw_sessions(rng, users.n_ratings)
    watched = _watched(rng, movies, users, times, is_first)
    rows = np.flatnonzero(np.arange(times.shape[1]) < users.n_ratings[:, None])
    user_rows, movie_rows = rows // times.shape[1], watched.ravel()[rows]
    values = draw_values(rng, movies, users, user_rows, movie_rows)

    ratings_file, movies_file, links_file = (folder / name for name in SAMPLE_FILES)
    by_movie = np.lexsort((movies.ids[movie_rows], user_rows))  # as in MovieLens, not by time
    _write(
        ratings_file,
        ("userId", "movieId", "rating", "timestamp"),
        zip(
            (user_rows[by_movie] + 1).tolist(),
            movies.ids[movie_rows[by_movie]].tolist(),
            values[by_movie].tolist(),
            times.ravel()[rows][by_movie].tolist(),
            strict=True,
        ),
    )
    write_movies(movies_file, movies)
    # No ids at IMDb or TMDB: they would lead to the posters of real movies.
    _write(links_file, ("movieId", "imdbId", "tmdbId"), ((one, "", "") for one in movies.ids.tolist()))


def write_movies(path: Path, movies: SampleMovies) -> None:
    """Writes movies.csv."""
    _write(
        path,
        ("movieId", "title", "genres"),
        zip(movies.ids.tolist(), movies.titles, movies.genres, strict=True),
    )


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def draw_movies(rng: np.random.Generator, n_movies: int) -> SampleMovies:
    """Invents movies, at least two shelves full."""
    names = [genre for genre in MOVIELENS_GENRES if genre not in {NO_GENRE, "IMAX"}]
    frequency = 1 / np.arange(3, 3 + len(names))
    frequency = rng.permutation(frequency) / frequency.sum()
    n_genres = rng.choice([1, 2, 3, 4], n_movies, p=[0.35, 0.35, 0.2, 0.1])
    has_genre = np.zeros((n_movies, len(names)), dtype=np.bool_)
    for row, n in enumerate(n_genres):
        has_genre[row, rng.choice(len(names), n, replace=False, p=frequency)] = True
    genre_tastes = unit(rng.normal(size=(len(names), TASTES)))
    tastes = unit(unit(has_genre @ genre_tastes) + 0.6 * unit(rng.normal(size=(n_movies, TASTES))))

    age = rng.exponential(25, n_movies)  # so that at the start there is enough for `_MOST_RATINGS`
    years = np.clip(_LAST_YEAR - age.astype(np.int64), _FIRST_YEAR, _LAST_YEAR)
    quality = rng.normal(0, 0.35, n_movies)
    appeal = rng.normal(0, 1.0, n_movies) + 0.8 * quality
    rare = rng.permutation(n_movies)
    without_genres, without_year = rare[:_WITHOUT_GENRES], rare[_WITHOUT_GENRES:][:_WITHOUT_YEAR]
    appeal[rare[-_NEVER_RATED:]] = -np.inf

    genres = ["|".join(np.array(names)[flags]) for flags in has_genre]
    for row in without_genres:
        genres[row] = NO_GENRE
    titles = _titles(rng, years)
    for row in without_year:
        titles[row] = titles[row][: -len(" (1999)")]
    return SampleMovies(
        ids=np.cumsum(rng.integers(1, 4, n_movies)),
        years=years,
        titles=titles,
        genres=genres,
        tastes=tastes,
        shelves=rng.integers(n_movies // _MOVIES_PER_SHELF, size=n_movies),
        appeal=appeal,
        quality=quality,
    )


def _titles(rng: np.random.Generator, years: npt.NDArray[np.int64]) -> list[str]:
    """All different; the article last, as MovieLens has it: "Silent Orchard, The (1999)"."""
    n_pairs = len(_ADJECTIVES) * len(_NOUNS)
    numbered = rng.choice(n_pairs * -(-years.size // n_pairs), years.size, replace=False)
    parts, pairs = np.divmod(numbered, n_pairs)
    articles = rng.choice(_ARTICLES, years.size, p=_ARTICLE_SHARES)
    titles = []
    for pair, part, article, year in zip(
        pairs.tolist(), parts.tolist(), articles.tolist(), years.tolist(), strict=True
    ):
        name = f"{_ADJECTIVES[pair // len(_NOUNS)]} {_NOUNS[pair % len(_NOUNS)]}"
        name += f" {part + 1}" if part else ""
        if article == "A" and name[0] in "AEIOU":
            article = "An"  # noqa: PLW2901
        titles.append(f"{name}{', ' if article else ''}{article} ({year})")
    return titles


def _users(rng: np.random.Generator) -> SampleUsers:
    return SampleUsers(
        tastes=unit(rng.normal(size=(N_USERS, TASTES))),
        mildness=rng.normal(0, 0.35, N_USERS),
        n_ratings=np.clip(rng.lognormal(4.5, 0.8, N_USERS), 20, _MOST_RATINGS).astype(np.int64),
    )


def draw_sessions(
    rng: np.random.Generator, n_ratings: npt.NDArray[np.int64], *, gap_days: float = 150.0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Times, shape (n_users, most ratings), ascending, and which of them open a session.

    Within a session ratings are seconds apart, some in the same second; sessions are `gap_days` apart in
    the mean.
    """
    shape = (n_ratings.size, int(n_ratings.max()))
    is_first = rng.random(shape) < 1 / 25
    is_first[:, 0] = True
    gaps = np.where(is_first, rng.exponential(gap_days * _DAY, shape), rng.exponential(12, shape))
    spans = np.cumsum(gaps, axis=1)
    whole = np.take_along_axis(spans, n_ratings[:, None] - 1, axis=1)
    shorter = np.minimum(1, (_END - _START) / whole)
    starts = _START + (_END - _START - whole * shorter) * rng.random((n_ratings.size, 1))
    return np.floor(starts + spans * shorter).astype(np.int64), is_first


def _watched(
    rng: np.random.Generator,
    movies: SampleMovies,
    users: SampleUsers,
    times: npt.NDArray[np.int64],
    is_first: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Movie rows, of the shape of `times`: step by step, for all users at once.

    A movie is drawn by its appeal, by taste, and by whether it stands beside the one before.
    """
    standing = movies.appeal + 4.5 * users.tastes @ movies.tastes.T
    weights = np.exp(standing - standing.max(axis=1, keepdims=True)).astype(np.float32)
    years = 1970 + times / _SECONDS_PER_YEAR
    watched = np.zeros(times.shape, dtype=np.int64)
    for step in range(times.shape[1]):
        active = np.flatnonzero(users.n_ratings > step)
        chances = weights[active] * (movies.years <= years[active, step, None])
        if step:
            previous = np.where(is_first[active, step], -1, watched[active, step - 1])
            beside = movies.shelves == np.where(previous < 0, -1, movies.shelves[previous])[:, None]
            chances[beside] *= _SHELF_PULL
        bounds = np.cumsum(chances, axis=1, dtype=np.float64)
        draws = rng.random(active.size) * bounds[:, -1]
        chosen = np.count_nonzero(bounds <= draws[:, None], axis=1)
        watched[active, step] = chosen
        weights[active, chosen] = 0  # nobody rates a movie twice
    return watched


def draw_values(
    rng: np.random.Generator,
    movies: SampleMovies,
    users: SampleUsers,
    user_rows: npt.NDArray[np.int64],
    movie_rows: npt.NDArray[np.int64],
) -> _Floats:
    """Stars in halves, 0.5 to 5, about 3.5 in the mean."""
    liking = np.einsum("ij,ij->i", users.tastes[user_rows], movies.tastes[movie_rows])
    stars = movies.quality[movie_rows] + 1.6 * liking + users.mildness[user_rows]
    stars += rng.normal(0, 0.7, stars.size)
    values: _Floats = np.clip(np.round(2 * (stars - stars.mean() + 3.5)) / 2, 0.5, 5)
    return values


def unit(vectors: _Floats) -> _Floats:
    """Each row at length 1."""
    lengths: _Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
