"""Why a movie got its score: what each feature added to it, in numbers and in words."""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

MOVIE: Final = "{movie}"
"""Stands in a phrase for the title of the movie behind the value. Ranking knows no titles."""


class Contribution(NamedTuple):
    """What one feature added to a movie's score (SHAP). A tuple: a call may ask for 20,000 of them."""

    feature: str
    value: float | None
    """What the ranker saw; None when it was missing."""
    contribution: float
    phrase: str
    """What the value says to a reader; `MOVIE` in it is the title of `movie_id`."""
    movie_id: int | None = None
    """The one movie behind the value, which the user rated; None when there is none."""

    def titled(self, title_of: Callable[[int], str]) -> "Contribution":
        """The same, with the title that `title_of` gives of a movie_id in the phrase."""
        feature, value, contribution, phrase, movie_id = self
        if movie_id is None:
            return self
        phrase = phrase.replace(MOVIE, title_of(movie_id))
        return Contribution(feature, value, contribution, phrase, movie_id)  # a third of `_replace`


Explanation: TypeAlias = tuple[Contribution, ...]
"""The largest absolute contribution first."""
