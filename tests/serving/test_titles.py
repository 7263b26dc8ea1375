"""Titles are found as people type them."""

import asyncio
import sqlite3
from collections.abc import Coroutine
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bundle.titles import TitleIndex, index_titles

MOVIES = (  # the most popular first
    ("The Matrix", 1999),
    ("Star Wars: Episode IV - A New Hope", 1977),
    ("Schindler's List", 1993),
    ("Alien", 1979),
    ("Aliens", 1986),
    ("It's a Wonderful Life", 1946),
    ("The Matrix Reloaded", 2003),
    ("Amélie", 2001),
    ("WALL·E", 2008),
    ("Spider-Man", 2002),
    ("Pulp Fiction", 1994),
    ("The Animatrix", 2003),
    ("Heat", 1986),
    ("Heat", 1995),
    ("It", 2017),
    ("A", 0),
    ("2012", 2009),
    ("Up in the Air", 2012),
    ("千と千尋の神隠し", 2001),
    ("...", 0),
    ("?", 1994),
)
TITLES = tuple(title for title, _ in MOVIES)
YEARS = np.array([year for _, year in MOVIES], np.int16)
ORDER = np.arange(len(MOVIES), dtype=np.int32)
INDEX = TitleIndex(index_titles(TITLES, YEARS, ORDER), ORDER)
NONE_BLOCKED = np.zeros(len(MOVIES), np.bool_)


def search(
    query: str, limit: int = 100, *, blocked: npt.NDArray[np.bool_] = NONE_BLOCKED, index: TitleIndex = INDEX
) -> list[int]:
    rows: list[int] = asyncio.run(index.search(query, blocked, limit)).tolist()
    return rows


def found(query: str, limit: int = 100) -> list[tuple[str, int]]:
    return [MOVIES[row] for row in search(query, limit)]


ALL_MATRICES = ["The Matrix", "The Matrix Reloaded", "The Animatrix"]


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        pytest.param("THE MATRIX", ALL_MATRICES, id="case"),
        pytest.param("Matrix, The", ALL_MATRICES, id="article last"),
        pytest.param("matr", ALL_MATRICES, id="beginning, then part"),
        pytest.param("it", ["It", "It's a Wonderful Life"], id="whole title before a more popular one"),
        pytest.param("hope wars", ["Star Wars: Episode IV - A New Hope"], id="words in any order"),
        pytest.param("schindlers list", ["Schindler's List"], id="apostrophe"),
        pytest.param("Schindler\u00b4s List", ["Schindler's List"], id="acute accent for an apostrophe"),
        pytest.param("amelie", ["Amélie"], id="accent"),
        pytest.param("walle", ["WALL·E"], id="point inside a word"),
        pytest.param("spiderman", ["Spider-Man"], id="hyphen"),
        pytest.param("spider man", ["Spider-Man"], id="two words for one"),
        pytest.param("pulp ficton", ["Pulp Fiction"], id="a letter missing"),
        pytest.param("schindlerrs", ["Schindler's List"], id="a letter too many"),
        pytest.param("alein", ["Alien"], id="letters swapped"),
        pytest.param("nimatri", ["The Animatrix"], id="part of a word"),
        pytest.param(
            "a", ["A", "Alien", "Aliens", "Amélie", "The Animatrix", "Up in the Air"], id="an article alone"
        ),
        pytest.param("2012", ["2012", "Up in the Air"], id="title before year"),
        pytest.param("1994", ["Pulp Fiction", "?"], id="year alone"),
        pytest.param("the air air", ["Up in the Air"], id="a word twice"),
        pytest.param("神隠", ["千と千尋の神隠し"][:0], id="two letters are no part"),
        pytest.param("千尋の", ["千と千尋の神隠し"], id="no spaces between words"),
        pytest.param("xyzzy", [], id="nothing"),
        pytest.param("?!", [], id="neither letters nor digits"),
    ],
)
def test_a_query_finds(query: str, titles: list[str]) -> None:
    assert [title for title, _ in found(query)] == titles


def test_a_year_tells_two_titles_apart() -> None:
    assert found("heat 1995")[0] == ("Heat", 1995)
    assert found("heat")[:2] == [("Heat", 1986), ("Heat", 1995)]


def test_a_limit_takes_the_best_and_what_is_blocked_makes_room() -> None:
    assert found("matrix", 2) == [("The Matrix", 1999), ("The Matrix Reloaded", 2003)]
    blocked = ORDER == 0
    assert [TITLES[row] for row in search("matrix", 1, blocked=blocked)] == ["The Matrix Reloaded"]


async def turns_during(search: Coroutine[Any, Any, npt.NDArray[np.int32]]) -> tuple[list[int], int]:
    """What a search finds, and how often others have their turn meanwhile."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(other())
        rows = await search
        task.cancel()
    return rows.tolist(), turns


async def test_others_have_their_turn_while_a_filter_passes_by_matches() -> None:
    """The one movie that a filter leaves stands behind 2,000 matches: nobody waits for all of them."""
    order = np.arange(2_001, dtype=np.int32)
    index = TitleIndex(index_titles(["Heat"] * order.size, np.zeros(order.size, np.int16), order), order)
    assert await turns_during(index.search("heat", order < 2_000, 1)) == ([2_000], 10)


async def test_others_have_their_turn_between_misspelt_words() -> None:
    """Each is compared to all words of titles: nobody waits for a query that is full of them."""
    query = "shindlers lisst matrixx amelei"
    assert await turns_during(INDEX.search(query, NONE_BLOCKED, 1)) == ([], 4)


def test_a_data_base_of_other_movies_is_refused() -> None:
    content = index_titles(TITLES, YEARS, ORDER)
    with pytest.raises(ValueError, match=f"titles are not those of {len(TITLES) - 1} movies"):
        TitleIndex(content, ORDER[:-1])


@given(st.integers(0, 10**9), st.binary(min_size=8, max_size=8))
def test_a_damaged_data_base_is_refused_or_searched(place: int, damage: bytes) -> None:
    """Nothing is found out by a search: what loads answers all of them."""
    content = bytearray(index_titles(TITLES, YEARS, ORDER))
    start = place % (len(content) - len(damage))
    content[start : start + len(damage)] = damage
    try:
        index = TitleIndex(bytes(content), ORDER)
    except (sqlite3.Error, ValueError):
        return
    for query in ("matrix", "hope wars", "heat 1995", "nimatri", "alein"):
        search(query, index=index)


@given(
    st.text(max_size=100)
    | st.lists(st.sampled_from(('"', "*", "^", "NEAR", "AND", "a", "title:", "(", "-"))).map(" ".join)
)
def test_any_text_is_a_query_and_no_expression(query: str) -> None:
    rows = search(query)
    assert len(set(rows)) == len(rows)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=20))
def test_every_title_with_a_letter_finds_itself(titles: list[str]) -> None:
    order = np.arange(len(titles), dtype=np.int32)
    index = TitleIndex(index_titles(titles, np.zeros(len(titles), np.int16), order), order)
    for row, title in enumerate(titles):
        rows = search(title, len(titles), blocked=np.zeros(len(titles), np.bool_), index=index)
        assert (row in rows) == any(letter.isalnum() for letter in title)
