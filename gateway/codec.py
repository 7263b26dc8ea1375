"""Public messages to and from the words of the domain.

What is decoded is checked first: `decode_...` raises InvalidArgumentError, which names every broken rule.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from gateway.fallback import FallbackPolicy
from gateway.lists.catalogue import Catalogue
from gateway.lists.list_builder import Item, ListAnswer
from gateway.lists.users import UserAnswer
from gateway.lists.why import RankingStanding, RetrievalStanding, Verdict, WhyAnswer
from gateway.movie_api import MoviesAnswer
from gateway.requests import (
    PersonalRequest,
    PopularRequest,
    SearchRequest,
    SimilarRequest,
    UserRequest,
    WhyRequest,
)
from gateway.validation import check_batch, page_size
from movierec.gateway.v1 import movie_service_pb2 as public
from serving.checks import PUBLIC
from serving.ids import NO_IDS
from serving.limits import DEFAULT_COMPARISONS, MAX_LIMIT
from serving.sources import Source
from serving.stages.messages import decode_filter, decode_history, encode_explanation
from serving.stages.stage import FallbackReason

_ListResponse = TypeVar(
    "_ListResponse",
    public.ListPopularMoviesResponse,
    public.ListPersonalMoviesResponse,
    public.ListSimilarMoviesResponse,
)
_Entries: TypeAlias = dict[tuple[int, str, tuple[Source, ...]], public.RecommendedMovie]
"""Movies that were shown, by row, source, and what offered them as candidates."""
MAX_ENTRIES: Final = 20_000
"""Most that are kept of a bundle, of some 2 kB each."""
REASONS: Final[Mapping[FallbackReason | None, "public.FallbackReason.ValueType"]] = MappingProxyType(
    {reason: public.FallbackReason.Value(f"FALLBACK_REASON_{reason}") for reason in FallbackReason}
    | {None: public.FALLBACK_REASON_UNSPECIFIED}
)
"""By the domain's word for it."""
_VERDICTS: Final[Mapping[Verdict, "public.Verdict.ValueType"]] = MappingProxyType(
    {verdict: public.Verdict.Value(f"VERDICT_{verdict.name}") for verdict in Verdict}
)


def decode_popular(message: public.ListPopularMoviesRequest) -> PopularRequest:
    """What the message asks for."""
    PUBLIC.require(message)
    return PopularRequest(
        limit=page_size(message.limit),
        offset=message.offset,
        movie_filter=decode_filter(message.filter),
        exclude_seen_by_user_id=_seen_by(message),
        trending=message.order == public.POPULAR_ORDER_TRENDING,
    )


def decode_personal(message: public.ListPersonalMoviesRequest) -> PersonalRequest:
    """What the message asks for."""
    PUBLIC.require(message)
    return _personal(message)


def decode_batch(message: public.BatchListPersonalMoviesRequest) -> list[PersonalRequest]:
    """What the message asks for.

    Raises:
        InvalidArgumentError: one of its requests, or the batch as a whole, breaks rules.
    """
    check_batch(message)
    return [_personal(request) for request in message.requests]


def decode_why(message: public.WhyMovieRequest) -> WhyRequest:
    """What the message asks for."""
    PUBLIC.require(message)
    return WhyRequest(
        movie_id=message.movie_id,
        in_question=PersonalRequest(
            user_id=message.user_id,
            limit=page_size(message.limit),
            movie_filter=decode_filter(message.filter),
            exclude_movie_ids=np.array(message.exclude_movie_ids, np.int64),
            include_seen=message.include_seen,
        ),
        n_comparisons=message.explain_features or DEFAULT_COMPARISONS,
    )


def decode_similar(message: public.ListSimilarMoviesRequest) -> SimilarRequest:
    """What the message asks for."""
    PUBLIC.require(message)
    return SimilarRequest(
        movie_id=message.movie_id,
        limit=page_size(message.limit),
        movie_filter=decode_filter(message.filter),
        exclude_seen_by_user_id=_seen_by(message),
        fallback_policy=_policy(message.fallback_policy),
    )


def decode_movie(message: public.GetMovieRequest) -> int:
    """The movie_id that the message asks for."""
    PUBLIC.require(message)
    return message.movie_id


def decode_search(message: public.SearchMoviesRequest) -> SearchRequest:
    """What the message asks for."""
    PUBLIC.require(message)
    return SearchRequest(
        query=message.query, limit=page_size(message.limit), movie_filter=decode_filter(message.filter)
    )


def decode_taste(message: public.ListTasteMoviesRequest) -> int:
    """How many movies the message asks for."""
    PUBLIC.require(message)
    return page_size(message.limit or MAX_LIMIT)


def decode_user(message: public.GetUserRequest) -> UserRequest:
    """What the message asks for."""
    PUBLIC.require(message)
    return UserRequest(user_id=message.user_id, limit=page_size(message.limit))


def _personal(message: public.ListPersonalMoviesRequest) -> PersonalRequest:
    excluded = message.exclude_movie_ids
    return PersonalRequest(
        user_id=message.user_id,
        limit=page_size(message.limit),
        movie_filter=decode_filter(message.filter),
        exclude_movie_ids=np.array(excluded, np.int64) if excluded else NO_IDS,
        include_seen=message.include_seen,
        history=decode_history(message.history),
        diversity=message.diversity,
        explain_features=message.explain_features,
        fallback_policy=_policy(message.fallback_policy),
        because_of=message.because_of,
        bundle_id=message.bundle_id,
    )


def _seen_by(message: public.ListPopularMoviesRequest | public.ListSimilarMoviesRequest) -> int | None:
    return message.exclude_seen_by_user_id if message.HasField("exclude_seen_by_user_id") else None


def _policy(number: int) -> FallbackPolicy:
    return FallbackPolicy.DENY if number == public.FALLBACK_POLICY_DENY else FallbackPolicy.ALLOW


class AnswerEncoder:
    """Answers as messages. What is shown of a movie is encoded once per bundle and model, and copied then.

    It is kept until the bundle is no longer held, or there are `MAX_ENTRIES`: then all begins again, as what
    is shown often comes back at once.
    """

    def __init__(self) -> None:
        self._entries: WeakKeyDictionary[Catalogue, _Entries] = WeakKeyDictionary()

    def popular(self, answer: ListAnswer) -> public.ListPopularMoviesResponse:
        """The list as a message."""
        return self._filled(public.ListPopularMoviesResponse(total_size=answer.total_size), answer)

    def personal(self, answer: ListAnswer) -> public.ListPersonalMoviesResponse:
        """The list as a message."""
        return self._filled(public.ListPersonalMoviesResponse(base_value=answer.base_value), answer)

    def similar(self, answer: ListAnswer) -> public.ListSimilarMoviesResponse:
        """The list as a message."""
        return self._filled(public.ListSimilarMoviesResponse(), answer)

    def why(self, why: WhyAnswer) -> public.WhyMovieResponse:
        """The answer as a message."""
        entries = self._entries_of(why.answer.catalogue)
        response = public.WhyMovieResponse(
            verdict=_VERDICTS[why.verdict],
            rank=why.rank,
            retrieval=_retrieval(why.retrieval) if why.retrieval else None,
            ranking=_ranking(why.ranking, why.answer.catalogue) if why.ranking else None,
            score_gap=why.score_gap,
            model=why.answer.model,
            degraded=why.answer.degraded,
            fallback_reason=REASONS[why.answer.reason],
            bundle_id=why.answer.bundle_id,
            **vars(why.facts),
        )
        response.movie.CopyFrom(_entry(why.answer.catalogue, why.movie_row, entries).movie)
        if why.last is not None:
            _fill_item(response.last_movie, why.last, why.last_rank, why.answer.catalogue, entries)
        return response

    def movie(self, answer: MoviesAnswer) -> public.GetMovieResponse:
        """The one entry as a message."""
        (movie,) = self._movies(answer)
        return public.GetMovieResponse(movie=movie, bundle_id=answer.catalogue.bundle_id)

    def search(self, answer: MoviesAnswer) -> public.SearchMoviesResponse:
        """The entries as a message."""
        return public.SearchMoviesResponse(movies=self._movies(answer), bundle_id=answer.catalogue.bundle_id)

    def taste(self, answer: MoviesAnswer) -> public.ListTasteMoviesResponse:
        """The entries as a message."""
        return public.ListTasteMoviesResponse(
            movies=self._movies(answer), bundle_id=answer.catalogue.bundle_id
        )

    def _movies(self, answer: MoviesAnswer) -> list[public.Movie]:
        entries = self._entries_of(answer.catalogue)
        return [_entry(answer.catalogue, row, entries).movie for row in answer.movie_rows]

    def user(self, answer: UserAnswer) -> public.GetUserResponse:
        """What is known of a user as a message."""
        catalogue = answer.catalogue
        entries = self._entries_of(catalogue)
        response = public.GetUserResponse(
            rating_count=answer.rating_count,
            rating_mean=answer.rating_mean,
            like_count=answer.like_count,
            genres=[public.GenreCount(genre=name, count=count) for name, count in answer.genres],
            bundle_id=catalogue.bundle_id,
        )
        for like in answer.likes:
            shown = response.likes.add(
                movie=_entry(catalogue, like.movie_row, entries).movie, rating=like.rating
            )
            if like.rated_at is not None:
                shown.rate_time.FromSeconds(like.rated_at)
        return response

    def _filled(self, response: _ListResponse, answer: ListAnswer) -> _ListResponse:
        response.model = answer.model
        response.degraded = answer.degraded
        response.fallback_reason = REASONS[answer.reason]
        response.bundle_id = answer.bundle_id
        response.recommendation_id = answer.recommendation_id
        entries = self._entries_of(answer.catalogue)
        for rank, item in enumerate(answer.items, answer.first_rank):
            _fill_item(response.movies.add(), item, rank, answer.catalogue, entries)
        return response

    def _entries_of(self, catalogue: Catalogue) -> _Entries:
        return self._entries.setdefault(catalogue, {})


def _fill_item(
    message: public.RecommendedMovie,
    item: Item,
    rank: int,
    catalogue: Catalogue,
    entries: _Entries,
) -> None:
    message.CopyFrom(_entry(catalogue, item.movie_row, entries, item.source, item.candidate_sources))
    message.rank = rank
    message.score = item.score
    if item.explanation:
        encode_explanation((c.titled(catalogue.title) for c in item.explanation), message.explanation)
    for liked in item.because_of:
        message.because_of.add(movie_id=liked.movie_id, title=liked.title, weight=liked.weight)


def _entry(
    catalogue: Catalogue,
    row: int,
    entries: _Entries,
    source: str = "",
    candidate_sources: tuple[Source, ...] = (),
) -> public.RecommendedMovie:
    """A movie without its place in a list; a source of "" when it is in none."""
    message = entries.get((row, source, candidate_sources))
    if message is None:
        if len(entries) >= MAX_ENTRIES:
            entries.clear()
        message = entries[row, source, candidate_sources] = public.RecommendedMovie(
            movie=public.Movie(**vars(catalogue.movie(row))),
            source=source,
            candidate_sources=candidate_sources,
        )
    return message


def _retrieval(standing: RetrievalStanding) -> public.RetrievalStanding:
    return public.RetrievalStanding(
        score=standing.score,
        rank=standing.rank,
        cut_score=standing.cut_score,
        sources=[
            public.SourceRank(source=source, rank=rank) for source, rank in standing.source_ranks.items()
        ],
    )


def _ranking(standing: RankingStanding, catalogue: Catalogue) -> public.RankingStanding:
    return public.RankingStanding(
        score=standing.score,
        rank=standing.rank,
        base_value=standing.base_value,
        comparisons=[
            public.ContributionComparison(
                feature=comparison.of_movie.feature,
                value=comparison.of_movie.value,
                contribution=comparison.of_movie.contribution,
                last_value=comparison.of_last.value,
                last_contribution=comparison.of_last.contribution,
                phrase=comparison.of_movie.titled(catalogue.title).phrase,
                movie_id=comparison.of_movie.movie_id,
                last_phrase=comparison.of_last.titled(catalogue.title).phrase,
                last_movie_id=comparison.of_last.movie_id,
            )
            for comparison in standing.comparisons
        ],
    )
