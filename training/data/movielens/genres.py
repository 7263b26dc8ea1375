"""Genres as the movies file writes them: any names, separated as MovieLens does unless told otherwise."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import pandas as pd

from serving.limits import LIMITS
from serving.movies import MAX_GENRES, MOVIELENS_GENRES, NO_GENRE
from training.data.movielens.problems import Problems

SEPARATOR: Final = "|"
_OTHER_SEPARATORS: Final = (",", ";", "/", "\t")
_CHILDREN: Final = "Children's"
"""As 1M spells "Children"."""
_NAME: Final = LIMITS["filter.genres[]"]


def check_genres(file: str, texts: "pd.Series[str]", separator: str | None, problems: Problems) -> None:
    """Tells `problems` which lines, the index of `texts`, have genres that cannot be read or kept.

    Where nobody said what separates two, what looks like another separator is refused.
    """
    if separator is None:
        is_usual = texts.str.contains(SEPARATOR, regex=False).any()
        for other in _OTHER_SEPARATORS:
            # A single "Action/Adventure" among genres that "|" separates is a name.
            lines = texts.index[texts.str.contains(other, regex=False)]
            if lines.size and not (is_usual and other == "/"):
                problems.add(
                    file,
                    f"genres hold {other!r}: if it separates them, pass --genre-separator {other!r}; "
                    f"if it is part of a name, pass --genre-separator {SEPARATOR!r}",
                    lines.tolist(),
                )
                return
    unique = {text: list(genres_of(text, separator)) for text in texts.unique()}
    wrong = {
        text
        for text, names in unique.items()
        if not all(_NAME.hold(len(name)) and name.isprintable() for name in names)
    }
    if wrong:
        rule = f"each genre {_NAME.rule}, none of them a control character"
        problems.add(file, rule, texts.index[texts.isin(wrong)].tolist())
    n_genres = len({name.casefold() for names in unique.values() for name in names} - {NO_GENRE})
    if n_genres >= MAX_GENRES:
        problems.add(
            file, f"genres are {n_genres:,} different ones; at most {MAX_GENRES - 1} can be kept: merge some"
        )


def genres_of(text: str, separator: str | None) -> Iterator[str]:
    """The names in one movie's genres, `NO_GENRE` included where it stands there."""
    for part in text.split(SEPARATOR if separator is None else separator):
        name = part.strip()
        if name:
            yield "Children" if name == _CHILDREN else name


def catalogue_genres(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The genres of a catalogue: those of MovieLens where it has no other ones, else its own, sorted.

    Names that differ in case alone are one genre, spelled as MovieLens does or as most movies do.
    """
    spellings = {name.casefold(): name for name in MOVIELENS_GENRES}
    own: dict[str, str] = {}
    for name, _ in Counter(name for names in lists for name in names).most_common():
        own.setdefault(name.casefold(), spellings.get(name.casefold(), name))
    if set(own) <= set(spellings):
        return MOVIELENS_GENRES
    return (NO_GENRE, *sorted(set(own.values()) - {NO_GENRE}))
