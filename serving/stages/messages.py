"""Messages that several packages repeat, to and from the words of the domain."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias, TypeVar

import numpy as np
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from movierec.candidate.v1 import candidate_service_pb2 as candidate
from movierec.gateway.v1 import movie_service_pb2 as gateway
from movierec.ranking.v1 import ranking_service_pb2 as ranking
from movierec.similarity.v1 import similarity_service_pb2 as similarity
from serving.explanations import Contribution
from serving.filters import MovieFilter
from serving.ratings import NO_HISTORY, NO_TIME, RatedMovies
from serving.sources import Source, SourceRanks

FilterMessage: TypeAlias = candidate.MovieFilter | gateway.MovieFilter | similarity.MovieFilter
"""A filter of any package."""

RatedMovieMessage: TypeAlias = candidate.RatedMovie | gateway.RatedMovie | ranking.RatedMovie
"""A rating of any package."""

ContributionMessages: TypeAlias = (
    RepeatedCompositeFieldContainer[gateway.FeatureContribution]
    | RepeatedCompositeFieldContainer[ranking.FeatureContribution]
)
"""A list of contributions of any package."""

RanksMessage: TypeAlias = candidate.CandidateList | ranking.RankingQuery
"""A list with the ranks that sources give its movies; not each has a field for all sources."""

RankMessage: TypeAlias = candidate.CandidateProbe | ranking.RankingProbe
"""The ranks that sources give one movie."""

_AnyFilter = TypeVar("_AnyFilter", candidate.MovieFilter, gateway.MovieFilter, similarity.MovieFilter)
_AnyRatedMovie = TypeVar("_AnyRatedMovie", candidate.RatedMovie, gateway.RatedMovie, ranking.RatedMovie)

LIKED_WITHOUT_STARS: Final = 5.0
"""What a rating without stars counts as: the movie was liked."""


def decode_filter(message: FilterMessage) -> MovieFilter:
    """The filter that a message describes; an unset message does not restrict."""
    return MovieFilter(
        genres=tuple(message.genres),
        exclude_genres=tuple(message.exclude_genres),
        min_year=message.min_year if message.HasField("min_year") else None,
        max_year=message.max_year if message.HasField("max_year") else None,
    )


def encode_filter(movie_filter: MovieFilter, message_class: type[_AnyFilter]) -> _AnyFilter:
    """The filter as a message of one package."""
    return message_class(
        genres=movie_filter.genres,
        exclude_genres=movie_filter.exclude_genres,
        min_year=movie_filter.min_year,
        max_year=movie_filter.max_year,
    )


def decode_history(messages: Iterable[RatedMovieMessage]) -> RatedMovies:
    """The ratings in request order; unset stars count as 5, an unset time as unknown."""
    messages = tuple(messages)
    if not messages:
        return NO_HISTORY
    return RatedMovies(
        movie_ids=tuple(m.movie_id for m in messages),
        values=tuple(m.rating if m.HasField("rating") else LIKED_WITHOUT_STARS for m in messages),
        times=tuple(m.rate_time.seconds if m.HasField("rate_time") else NO_TIME for m in messages),
    )


def encode_history(history: RatedMovies, message_class: type[_AnyRatedMovie]) -> list[_AnyRatedMovie]:
    """The ratings as messages of one package."""
    messages = []
    for movie_id, value, time in zip(history.movie_ids, history.values, history.times, strict=True):
        message = message_class(movie_id=movie_id, rating=value)
        if time != NO_TIME:
            message.rate_time.seconds = time
        messages.append(message)
    return messages


def encode_explanation(explanation: Iterable[Contribution], messages: ContributionMessages) -> None:
    """Adds the contributions to a list of one package."""
    for feature, value, contribution, phrase, movie_id in explanation:
        message = messages.add()  # to fill it by keyword takes a third longer
        message.feature = feature
        message.contribution = contribution
        message.phrase = phrase
        if value is not None:
            message.value = value
        if movie_id is not None:
            message.movie_id = movie_id


def encode_source_ranks(ranks: SourceRanks, message: RanksMessage) -> None:
    """Writes the ranks of each source that the message has a field for."""
    for source, of_source in ranks.items():
        if f"{source}_ranks" in message.DESCRIPTOR.fields_by_name:
            getattr(message, f"{source}_ranks").extend(of_source.tolist())


def decode_source_ranks(message: RanksMessage) -> SourceRanks:
    """Those of the sources that have any; as many as the message has, whatever else stands in it."""
    found = {source: getattr(message, f"{source}_ranks", ()) for source in Source}
    return {source: np.asarray(ranks, np.int32) for source, ranks in found.items() if ranks}


def encode_ranks(ranks: Mapping[Source, int], message: RankMessage) -> None:
    """Writes the ranks of one movie, of each source that the message has a field for."""
    for source, rank in ranks.items():
        if f"{source}_rank" in message.DESCRIPTOR.fields_by_name:
            setattr(message, f"{source}_rank", rank)


def decode_ranks(message: RankMessage) -> dict[Source, int]:
    """The ranks of one movie, of the sources that offer it."""
    found = {source: getattr(message, f"{source}_rank", 0) for source in Source}
    return {source: rank for source, rank in found.items() if rank > 0}
