"""The tour: what the running system recommends, to whom, and how to ask it oneself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import httpx
from rich.console import Console

from deploy.demo import answers, view
from deploy.demo.answers import (
    AnswerError,
    Expectation,
    MovieList,
    Question,
    ask,
    faults,
    other_bundle,
)
from deploy.demo.published import PublishedBundle
from deploy.demo.signals import StopRequest
from deploy.demo.users import Watcher
from movierec.gateway.v1 import movie_service_pb2 as pb

PAGE: Final = 5
REASONS: Final = 3
LIKES: Final = 1
TOY_STORY: Final = 1
UNKNOWN_USER: Final = 999_999_999
HISTORY_GENRE: Final = "Sci-Fi"
_LookedUp = TypeVar("_LookedUp", pb.GetMovieResponse, pb.ListPopularMoviesResponse)


@dataclass(frozen=True)
class Tour:
    """Asks, shows and checks; every method returns what is wrong."""

    client: httpx.Client
    """Speaks to the edge; its base_url is what the curl lines name."""
    console: Console
    published: PublishedBundle
    """What all answers must come from."""
    watchers: Sequence[Watcher]
    stop_request: StopRequest

    def run(self) -> list[str]:
        """Go through all of it, or until asked to stop; what is wrong is also shown."""
        steps: list[tuple[str, Callable[[], list[str]]]] = [
            *((f"user {w.user_id}", partial(self._known_user, w)) for w in self.watchers),
            ("new user", self._new_user),
            ("similar movies", self._similar),
            ("popular movies", self._popular),
            ("unknown user", self._unknown_user),
        ]
        wrong: list[str] = []
        for name, step in steps:
            if self.stop_request.made:
                break
            try:
                found = step()
            except AnswerError as error:
                found = [str(error)]
                view.show_faults(self.console, found)
            wrong += [f"{name}: {fault}" for fault in found]
        return wrong

    def _known_user(self, watcher: Watcher) -> list[str]:
        reasons = (("explain_features", REASONS), ("because_of", LIKES))
        query = (("user_id", watcher.user_id), ("limit", PAGE), *reasons)
        question = Question("/api/movies/personal", query)
        self._heading(f"User {watcher.user_id}, as the model knows them", question)
        expected = Expectation(size=PAGE, models=answers.PERSONAL, absent=watcher.seen, explained=REASONS)
        return self._beside(question, watcher.liked[:PAGE], expected)

    def _new_user(self) -> list[str]:
        history = [item.movie.movie_id for item in self._history]
        body = {
            "history": [{"movie_id": movie} for movie in history],  # unrated: liked
            "limit": PAGE,
            "explain_features": REASONS,
            "because_of": LIKES,
        }
        question = Question("/api/movies/personal", body=body)
        self._heading(f"A new user, known by {len(history)} movies only", question)
        expected = Expectation(
            size=PAGE, models=answers.PERSONAL, absent=frozenset(history), explained=REASONS
        )
        return self._beside(question, [(movie, 5.0) for movie in history[:PAGE]], expected)

    def _similar(self) -> list[str]:
        movie = self._reference_movie
        question = Question(f"/api/movies/{movie.movie_id}/similar", (("limit", PAGE),))
        self._heading(f"Movies similar to {movie.title}", question)
        answer = ask(self.client, question, pb.ListSimilarMoviesResponse)
        expected = Expectation(size=PAGE, models=answers.SIMILAR, absent=frozenset({movie.movie_id}))
        return self._list(answer, expected)

    def _popular(self) -> list[str]:
        question = Question("/api/movies/popular", (("limit", PAGE),))
        self._heading("Popular movies", question)
        answer = ask(self.client, question, pb.ListPopularMoviesResponse)
        return self._list(answer, Expectation(size=PAGE, models=answers.POPULAR))

    def _unknown_user(self) -> list[str]:
        query = (("user_id", UNKNOWN_USER), ("limit", PAGE))
        question = Question("/api/movies/personal", query)
        self._heading("A user nobody has heard of: the popular list, and it says so", question)
        answer = ask(self.client, question, pb.ListPersonalMoviesResponse)
        expected = Expectation(size=PAGE, models=answers.POPULAR, reason=pb.FALLBACK_REASON_UNKNOWN_USER)
        return self._list(answer, expected)

    def _heading(self, heading: str, question: Question) -> None:
        view.show_heading(self.console, heading, question.curl(str(self.client.base_url)))

    def _beside(
        self, question: Question, rated: Sequence[tuple[int, float]], expected: Expectation
    ) -> list[str]:
        answer = ask(self.client, question, pb.ListPersonalMoviesResponse)
        titles = [view.RatedTitle(self._movie(movie), rating) for movie, rating in rated]
        view.show_beside(self.console, titles, answer)
        return self._verdict(answer, expected)

    def _list(self, answer: MovieList, expected: Expectation) -> list[str]:
        view.show_list(self.console, answer)
        return self._verdict(answer, expected)

    def _verdict(self, answer: MovieList, expected: Expectation) -> list[str]:
        found = faults(answer, expected, self.published)
        view.show_verdict(self.console, answer, found)
        return found

    def _look_up(self, question: Question, kind: type[_LookedUp]) -> _LookedUp:
        """Ask for what a question or a table needs.

        Raises:
            AnswerError: there is no answer, or one from another bundle than the published one.
        """
        answer = ask(self.client, question, kind)
        if answer.bundle_id != self.published.bundle_id:
            raise AnswerError(f"{question.url}: {other_bundle(answer.bundle_id, self.published)}")
        return answer

    def _movie(self, movie_id: int) -> pb.Movie:
        movie = self._look_up(Question(f"/api/movies/{movie_id}"), pb.GetMovieResponse).movie
        if not self.published.has(movie.movie_id, movie.title):
            raise AnswerError(f"/api/movies/{movie_id} is {movie.title!r}, not that of the published bundle")
        return movie

    def _popular_movies(self, limit: int, *query: tuple[str, str | int]) -> Sequence[pb.RecommendedMovie]:
        question = Question("/api/movies/popular", (("limit", limit), *query))
        return self._look_up(question, pb.ListPopularMoviesResponse).movies

    @property
    def _history(self) -> Sequence[pb.RecommendedMovie]:
        """Well-known movies of one taste; of any taste where that genre is not to be had.

        Five, or as many as it takes to get more than what is popular.
        """
        size = max(PAGE, self.published.least_history)
        if HISTORY_GENRE in self.published.genres:
            movies = self._popular_movies(size, ("filter.genres", HISTORY_GENRE))
            if len(movies) == size:
                return movies
        return self._popular_movies(size)

    @property
    def _reference_movie(self) -> pb.Movie:
        if TOY_STORY in self.published.titles:
            return self._movie(TOY_STORY)
        return self._popular_movies(1)[0].movie
