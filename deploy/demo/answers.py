"""Questions to the REST API, their answers, and what must hold of each."""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import urlencode

import httpx
from google.protobuf import json_format
from google.protobuf.message import Message

from deploy.demo.published import PublishedBundle
from movierec.gateway.v1 import movie_service_pb2 as pb

MovieList: TypeAlias = (
    pb.ListPersonalMoviesResponse | pb.ListPopularMoviesResponse | pb.ListSimilarMoviesResponse
)
_M = TypeVar("_M", bound=Message)


class AnswerError(Exception):
    """An answer that is no answer: another status than 200, or not the JSON that it should be."""


@dataclass(frozen=True)
class Question:
    """One REST request."""

    path: str
    query: tuple[tuple[str, str | int], ...] = ()
    body: dict[str, Any] | None = None
    """What is posted; without it the request is a GET."""

    @property
    def url(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def curl(self, base_url: str) -> str:
        """Return the command that asks the same from a shell."""
        url = base_url + self.url
        if self.body is None:
            return f"curl -s {shlex.quote(url)}"
        header = "-H 'content-type: application/json'"
        body = json.dumps(self.body, separators=(",", ":"))
        return f"curl -s {shlex.quote(url)} {header} \\\n  -d {shlex.quote(body)}"


def ask(client: httpx.Client, question: Question, answer: type[_M]) -> _M:
    """Ask, and decode the answer.

    Raises:
        AnswerError: the answer is an error, or does not fit the API.
    """
    method = "GET" if question.body is None else "POST"
    try:
        response = client.request(method, question.url, json=question.body)
    except httpx.TransportError as error:
        raise AnswerError(f"no answer: {error}") from error
    if response.status_code != httpx.codes.OK:
        raise AnswerError(f"status {response.status_code}: {response.text[:300]}")
    try:
        return json_format.Parse(response.text, answer())
    except json_format.ParseError as error:
        raise AnswerError(f"not an answer of this API: {error}") from error


@dataclass(frozen=True)
class Expectation:
    """What must hold of a list, whatever the data."""

    size: int
    models: frozenset[str]
    """Any of these may have served it."""
    reason: pb.FallbackReason.ValueType = pb.FALLBACK_REASON_UNSPECIFIED
    absent: frozenset[int] = frozenset()
    """Movies that must not be in it: watched ones, or the one compared with."""
    explained: int = 0
    """Contributions that each movie carries."""


def faults(answer: MovieList, expected: Expectation, published: PublishedBundle) -> list[str]:
    """Return what is wrong with an answer, one sentence each; nothing when it is right."""
    ids = [item.movie.movie_id for item in answer.movies]
    unwanted = sorted(expected.absent.intersection(ids))
    shown = {(item.movie.movie_id, item.movie.title) for item in answer.movies}
    shown |= {(liked.movie_id, liked.title) for item in answer.movies for liked in item.because_of}
    foreign = sorted(movie_id for movie_id, title in shown if not published.has(movie_id, title))
    rules: Sequence[tuple[bool, str]] = (
        (answer.model in expected.models, f"model is {answer.model!r}"),
        (not answer.degraded, f"degraded: {pb.FallbackReason.Name(answer.fallback_reason)}"),
        (
            answer.fallback_reason == expected.reason,
            f"fallback_reason is {pb.FallbackReason.Name(answer.fallback_reason)}",
        ),
        (len(ids) == expected.size, f"{len(ids)} movies instead of {expected.size}"),
        (len(set(ids)) == len(ids), "a movie is there twice"),
        (not unwanted, f"movies that must not be there: {unwanted}"),
        ([item.rank for item in answer.movies] == list(range(1, len(ids) + 1)), "ranks have gaps"),
        (all(math.isfinite(item.score) for item in answer.movies), "a score is not finite"),
        (answer.bundle_id == published.bundle_id, other_bundle(answer.bundle_id, published)),
        (not foreign, f"movies that the published bundle does not have: {foreign}"),
        (bool(answer.recommendation_id), "recommendation_id is empty"),
    )
    found = [complaint for holds, complaint in rules if not holds]
    return found + _explanation_faults(answer, expected.explained)


def other_bundle(bundle_id: str, published: PublishedBundle) -> str:
    """Return the sentence about an answer from another bundle than the published one."""
    return f"bundle_id is {bundle_id!r}, that of the published bundle {published.bundle_id!r}"


def _explanation_faults(answer: MovieList, explained: int) -> list[str]:
    if any(len(item.explanation) != explained for item in answer.movies):
        return [f"a movie does not carry {explained} reasons"]
    reasons = [reason for item in answer.movies for reason in item.explanation]
    if not all(reason.feature and math.isfinite(reason.contribution) for reason in reasons):
        return ["a reason is not readable"]
    return []


PERSONAL: Final = frozenset({"two_stage"})
POPULAR: Final = frozenset({"popularity_fallback"})
SIMILAR: Final = frozenset({"als_cosine"})
