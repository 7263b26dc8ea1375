"""Reads the responses of stages: arrays out, and nothing unusable gets past."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from serving.ids import Ids, all_differ
from serving.stages.stage import FallbackReason, InvalidResponseError, StageError, StageFailure, StageName

Part = TypeVar("Part")
Query = TypeVar("Query")
Answer = TypeVar("Answer")


def require(holds: bool | np.bool_, what: str) -> None:  # noqa: FBT001  # reads as a sentence
    """Checks one thing that a response must be.

    Raises:
        InvalidResponseError: it is not; the message says what was expected.
    """
    if not holds:
        raise InvalidResponseError(f"expected {what}")


def require_bundle(stage: StageName, bundle_id: str, asked: str) -> None:
    """Checks which bundle a response comes from.

    Args:
        stage: that answered.
        bundle_id: of the response.
        asked: of the queries; empty: whichever the stage answers from.

    Raises:
        InvalidResponseError: the response names none.
        StageError: it is not the one that was asked.
    """
    require(bool(bundle_id), "a bundle_id")
    if asked not in {"", bundle_id}:
        raise StageError(stage, FallbackReason.BUNDLE_MISMATCH, "answered from another bundle")


def each(
    stage: StageName,
    read: Callable[[Part, Query], Answer],
    parts: Sequence[Part],
    queries: Sequence[Query],
) -> list[Answer | StageFailure]:
    """The answers of a response, each read and checked by itself.

    Raises:
        InvalidResponseError: there is not one per query.
    """
    require(len(parts) == len(queries), "one list per query")
    answers: list[Answer | StageFailure] = []
    for part, query in zip(parts, queries, strict=True):
        try:
            answers.append(read(part, query))
        except InvalidResponseError as error:
            answers.append(StageFailure(stage, FallbackReason.INVALID_RESPONSE, str(error)))
    return answers


def read_scored(
    movie_ids: Sequence[int], scores: Sequence[float], limit: int, *, descending: bool = True
) -> tuple[Ids, npt.NDArray[np.float64]]:
    """Movies and their scores: as many of both, no more than asked for, no movie twice, finite, best first.

    Args:
        movie_ids: of the message.
        scores: of the message.
        limit: most movies that were asked for.
        descending: whether the best must come first.

    Raises:
        InvalidResponseError: they are not.
    """
    require(len(movie_ids) == len(scores), "one score per movie")
    require(len(movie_ids) <= limit, "no more movies than asked for")  # before arrays of any size are made
    ids, values = np.asarray(movie_ids, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    require(all_differ(ids), "unique movies")
    require(bool(np.isfinite(values).all()), "finite scores")
    require(not descending or bool((values[1:] <= values[:-1]).all()), "the best first")
    return ids, values
