"""`titles.sqlite`: titles as people type them, found by SQLite's full-text index (https://sqlite.org/fts5.html)."""

import asyncio
import re
import sqlite3
import unicodedata
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from rapidfuzz import process
from rapidfuzz.distance import OSA

from serving.bundle.store import BundleError, BundleFolder
from serving.ids import Rows
from serving.movies import UNKNOWN_YEAR

_FILE: Final = "titles.sqlite"
_UNWEIGHED_WORDS: Final = frozenset({"a", "an", "and", "the"})
"""They do not tell one title from another, and people leave them out."""
_JOINED: Final = re.compile(r"(?<=\w)['\u2019`\u00b4.\u00b7*](?=\w)")
"""What stands inside a word and is seldom typed: Schindler's, S.W.A.T., WALL·E, M*A*S*H."""
_WORD: Final = re.compile(r"[^\W_]+")
_TRIGRAM: Final = 3
_LEAST_FOR_TYPOS: Final = 4
"""Letters of a word: shorter ones are one letter away from too many others."""
_MOST_CLOSE_WORDS: Final = 20
_MOST_MATCHES: Final = 10_000
"""Matches of one kind that a filter looks at, the most popular first."""
_MATCHES_AT_ONCE: Final = 200
"""Matches that are looked at before others have their turn: 0.5 ms or so."""
_SCHEMA: Final = """
    CREATE TABLE exact (title TEXT NOT NULL, year INTEGER, place INTEGER NOT NULL);
    CREATE VIRTUAL TABLE words USING fts5(title, year, content='', prefix='1 2 3');
    CREATE VIRTUAL TABLE letters USING fts5(title, content='', tokenize='trigram');
"""
_TITLE: Final = "SELECT place FROM exact WHERE title = ? ORDER BY place LIMIT ?"
_TITLE_AND_YEAR: Final = "SELECT place FROM exact WHERE title = ? AND year = ? ORDER BY place LIMIT ?"
_WORDS: Final = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid LIMIT ?"
_LETTERS: Final = "SELECT rowid FROM letters WHERE letters MATCH ? ORDER BY rowid LIMIT ?"
_CHECKS: Final = """
    INSERT INTO words (words) VALUES ('integrity-check');
    INSERT INTO letters (letters) VALUES ('integrity-check');
"""
_NUMBERS: Final = "SELECT count(*), count(DISTINCT place), min(place), max(place) FROM exact"
_INSERTS: Final = (
    "INSERT INTO exact VALUES (:title, :year, :place)",
    "INSERT INTO words (rowid, title, year) VALUES (:place, :title, :year)",
    "INSERT INTO letters (rowid, title) VALUES (:place, :letters)",
)
_INDEXES: Final = """
    CREATE INDEX exact_titles ON exact (title, place);
    INSERT INTO words (words) VALUES ('optimize');
    INSERT INTO letters (letters) VALUES ('optimize');
"""


def words_of(text: str) -> list[str]:
    """The words that tell a title: lower case, without accents, articles and punctuation.

    Articles stay where there is nothing else.
    """
    joined = _JOINED.sub("", text.casefold())  # decomposed, an acute accent alone would part words
    decomposed = unicodedata.normalize("NFKD", joined)
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    words = _WORD.findall(plain)
    return [word for word in words if word not in _UNWEIGHED_WORDS] or words


def write_titles(folder: Path, content: bytes) -> None:
    """Writes what `index_titles` gave to the gateway's part of a bundle."""
    (folder / _FILE).write_bytes(content)


def index_titles(titles: Sequence[str], years: npt.NDArray[np.integer], popularity_order: Rows) -> bytes:
    """A data base of titles. The same titles give the same bytes with the same release of SQLite.

    Args:
        titles: without their years; a row each.
        years: shape (n_movies,); 0 when unknown.
        popularity_order: shape (n_movies,): all rows, the most popular first.
    """
    rows = []
    for place, row in enumerate(popularity_order.tolist()):
        title = " ".join(words_of(titles[row]))
        letters = title.replace(" ", "")
        year = None if years[row] == UNKNOWN_YEAR else years.item(row)
        rows.append({"place": place, "title": title, "letters": letters, "year": year})
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        for insert in _INSERTS:
            connection.executemany(insert, rows)
        connection.executescript(_INDEXES)
        return connection.serialize()


class TitleIndex:
    """Finds movies by what people remember of their titles.

    Titles are numbered by popularity, and SQLite gives matches in the order of their numbers: so the most
    popular come first among equals, and a search ends once it has enough.

    Args:
        content: what `index_titles` gave.
        popularity_order: the same as there.

    Raises:
        sqlite3.Error: this is no data base, or a damaged one.
        ValueError: it has other titles than one for each movie.
    """

    def __init__(self, content: bytes, popularity_order: Rows) -> None:
        self._order = popularity_order
        # One loads it and another searches; never both at once.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._connection.deserialize(content)
        self._require_whole()
        self._connection.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, words, row)")
        self._words_by_length: dict[int, list[str]] = {}
        for (word,) in self._connection.execute("SELECT term FROM temp.terms"):
            self._words_by_length.setdefault(len(word), []).append(word)

    @classmethod
    def read(cls, folder: BundleFolder, popularity_order: Rows) -> "TitleIndex":
        """Reads what `write_titles` wrote.

        Raises:
            BundleError: it is missing or damaged.
        """
        try:
            return cls(folder.read(_FILE), popularity_order)
        except (sqlite3.Error, ValueError) as error:
            raise BundleError(f"bundle {folder.manifest.bundle_id}: {_FILE}: {error}") from error

    def _require_whole(self) -> None:
        """What only a search would stumble over later is looked for at once."""
        (found,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise ValueError(found)
        self._connection.executescript(_CHECKS)
        numbers = self._connection.execute(_NUMBERS).fetchone()
        expected = (self._order.size, self._order.size, 0, self._order.size - 1)
        if numbers != expected and self._order.size:
            raise ValueError(f"titles are not those of {self._order.size} movies")

    async def search(self, query: str, blocked: npt.NDArray[np.bool_], limit: int) -> Rows:
        """The movies whose titles match, the best match first; among equals the most popular.

        First titles that are the query, then those that begin with it, those with words that begin with its
        words, in any order (a year counts as one), and those that hold it or all of its words anywhere. Where
        there are none, those with words at most one letter away from its words (optimal string alignment
        distance).

        A filter that leaves few movies makes it look at tens of thousands of matches, and each word that is
        not one of a title at tens of thousands of words: it lets others have their turn in between.

        Args:
            query: what somebody typed.
            blocked: shape (n_movies,): what to leave out.
            limit: most movies to return.

        Returns:
            Rows, at most `limit`. None when the query has neither letters nor digits.
        """
        words = words_of(query)
        if not words or not limit or blocked.all():
            return self._order[:0]
        rows, n_matches = await self._admitted(self._as_typed(words), blocked, limit)
        if n_matches:
            return rows
        spellings = []
        for word in dict.fromkeys(words):
            spellings.append([f'"{word}"*', *(f'"{close}"' for close in self._close(word))])
            await asyncio.sleep(0)
        alike = " AND ".join(f"({' OR '.join(one)})" for one in spellings)
        rows, _ = await self._admitted(self._select(_WORDS, alike), blocked, limit)
        return rows

    async def _admitted(
        self, places: Iterator[int], blocked: npt.NDArray[np.bool_], limit: int
    ) -> tuple[Rows, int]:
        """Rows of the first matches that are not blocked, and how many matches were looked at.

        Args:
            places: in the popularity order, of what matches, the best match first; some come again.
            blocked: shape (n_movies,): what to leave out.
            limit: most movies to return.
        """
        found: dict[int, None] = {}
        n_matches = 0
        for n_matches, place in enumerate(places, start=1):
            row = self._order.item(place)
            if not blocked[row]:
                found[row] = None
                if len(found) == limit:
                    break
            if n_matches % _MATCHES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return np.fromiter(found, np.int32, len(found)), n_matches

    def _as_typed(self, words: list[str]) -> Iterator[int]:
        *before, last = words
        different = dict.fromkeys(words)
        yield from self._select(_TITLE, " ".join(words))
        if before:
            yield from self._select(_TITLE_AND_YEAR, " ".join(before), last)
        yield from self._select(_WORDS, f'title: ^"{" ".join(words)}"*')
        yield from self._select(_WORDS, " ".join(f'"{word}"*' for word in different))
        for parts in dict.fromkeys((("".join(words),), tuple(different))):
            if min(map(len, parts)) >= _TRIGRAM:
                yield from self._select(_LETTERS, " ".join(f'"{part}"' for part in parts))

    def _select(self, query: str, *parameters: str) -> Iterator[int]:
        return (place for (place,) in self._connection.execute(query, (*parameters, _MOST_MATCHES)))

    def _close(self, word: str) -> list[str]:
        """Words of titles that one letter more, less, else or swapped makes the same."""
        if len(word) < _LEAST_FOR_TYPOS or word.isdigit():
            return []
        lengths = range(len(word) - 1, len(word) + 2)
        words = [other for length in lengths for other in self._words_by_length.get(length, ())]
        distances = process.cdist([word], words, scorer=OSA.distance, score_cutoff=1)[0]
        return [words[place] for place in np.flatnonzero(distances <= 1)[:_MOST_CLOSE_WORDS].tolist()]
