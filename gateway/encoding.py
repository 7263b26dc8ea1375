"""Public messages to and from the words of the domain: pure functions, no rules."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.catalogue import Movie
from gateway.fallback import FallbackPolicy, FallbackReason
from gateway.pages import Item, ListAnswer
from gateway.pipeline import MovieAnswer
from gateway.requests import PersonalRequest, PopularRequest, SimilarRequest, WhyRequest
from gateway.validation import LIMITS
from gateway.why import RankingStanding, RetrievalStanding, Verdict, WhyAnswer
from movierec.gateway.v1 import movie_service_pb2 as public
from serving.rpc.messages import decode_filter, decode_history

_POLICIES: Final[Mapping[int, FallbackPolicy]] = MappingProxyType(
    {
        public.FALLBACK_POLICY_UNSPECIFIED: FallbackPolicy.ALLOW,
        public.FALLBACK_POLICY_ALLOW: FallbackPolicy.ALLOW,
        public.FALLBACK_POLICY_DENY: FallbackPolicy.DENY,
    }
)
_REASONS: Final[Mapping[FallbackReason | None, "public.FallbackReason.ValueType"]] = MappingProxyType(
    {reason: public.FallbackReason.Value(f"FALLBACK_REASON_{reason}") for reason in FallbackReason}
    | {None: public.FALLBACK_REASON_UNSPECIFIED}
)

_VERDICTS: Final[Mapping[Verdict, "public.Verdict.ValueType"]] = MappingProxyType(
    {verdict: public.Verdict.Value(f"VERDICT_{verdict.name}") for verdict in Verdict}
)

# One entry more than is accepted gets a list refused; to decode the rest of a million is work for nobody.
_MAX_HISTORY: Final = int(LIMITS["history"].high) + 1
_MAX_REQUESTS: Final = int(LIMITS["requests"].high) + 1


def decode_popular(message: public.ListPopularMoviesRequest) -> PopularRequest:
    """What the message asks for."""
    return PopularRequest(
        limit=message.limit,
        offset=message.offset,
        movie_filter=decode_filter(message.filter),
        exclude_seen_by_user_id=_seen_by(message),
    )


def decode_personal(message: public.ListPersonalMoviesRequest) -> PersonalRequest:
    """What the message asks for."""
    return PersonalRequest(
        user_id=message.user_id,
        limit=message.limit,
        movie_filter=decode_filter(message.filter),
        exclude_movie_ids=tuple(message.exclude_movie_ids),
        include_seen=message.include_seen,
        history=decode_history(message.history[:_MAX_HISTORY]),
        diversity=message.diversity,
        explain_features=message.explain_features,
        fallback_policy=_policy(message.fallback_policy),
        because_of=message.because_of,
    )


def decode_why(message: public.WhyMovieRequest) -> WhyRequest:
    """What the message asks for."""
    return WhyRequest(
        movie_id=message.movie_id,
        user_id=message.user_id,
        limit=message.limit,
        movie_filter=decode_filter(message.filter),
        exclude_movie_ids=tuple(message.exclude_movie_ids),
        include_seen=message.include_seen,
        explain_features=message.explain_features,
    )


def decode_batch(message: public.BatchListPersonalMoviesRequest) -> list[PersonalRequest]:
    """What the message asks for."""
    return [decode_personal(one) for one in message.requests[:_MAX_REQUESTS]]


def decode_similar(message: public.ListSimilarMoviesRequest) -> SimilarRequest:
    """What the message asks for."""
    return SimilarRequest(
        movie_id=message.movie_id,
        limit=message.limit,
        movie_filter=decode_filter(message.filter),
        exclude_seen_by_user_id=_seen_by(message),
        fallback_policy=_policy(message.fallback_policy),
    )


def encode_popular(answer: ListAnswer) -> public.ListPopularMoviesResponse:
    """The list as a message."""
    return public.ListPopularMoviesResponse(
        movies=_movies(answer),
        model=answer.model,
        degraded=answer.degraded,
        fallback_reason=_REASONS[answer.reason],
        bundle_id=answer.bundle_id,
        recommendation_id=answer.recommendation_id,
        total_size=answer.total_size,
    )


def encode_personal(answer: ListAnswer) -> public.ListPersonalMoviesResponse:
    """The list as a message."""
    return public.ListPersonalMoviesResponse(
        movies=_movies(answer),
        model=answer.model,
        degraded=answer.degraded,
        fallback_reason=_REASONS[answer.reason],
        bundle_id=answer.bundle_id,
        recommendation_id=answer.recommendation_id,
        base_value=answer.base_value,
    )


def encode_similar(answer: ListAnswer) -> public.ListSimilarMoviesResponse:
    """The list as a message."""
    return public.ListSimilarMoviesResponse(
        movies=_movies(answer),
        model=answer.model,
        degraded=answer.degraded,
        fallback_reason=_REASONS[answer.reason],
        bundle_id=answer.bundle_id,
        recommendation_id=answer.recommendation_id,
    )


def encode_why(why: WhyAnswer) -> public.WhyMovieResponse:
    """The answer as a message."""
    return public.WhyMovieResponse(
        movie=_movie(why.movie),
        verdict=_VERDICTS[why.verdict],
        rank=why.rank,
        seen=why.facts.seen,
        excluded=why.facts.excluded,
        filtered_out=why.facts.filtered_out,
        retrieval=_retrieval(why.retrieval) if why.retrieval else None,
        ranking=_ranking(why.ranking) if why.ranking else None,
        last_movie=_recommended(why.last, why.last_rank) if why.last else None,
        score_gap=why.score_gap,
        model=why.answer.model,
        degraded=why.answer.degraded,
        fallback_reason=_REASONS[why.answer.reason],
        bundle_id=why.answer.bundle_id,
    )


def encode_movie(answer: MovieAnswer) -> public.GetMovieResponse:
    """The entry as a message."""
    return public.GetMovieResponse(movie=_movie(answer.movie), bundle_id=answer.bundle_id)


def _seen_by(message: public.ListPopularMoviesRequest | public.ListSimilarMoviesRequest) -> int | None:
    return message.exclude_seen_by_user_id if message.HasField("exclude_seen_by_user_id") else None


def _policy(number: int) -> FallbackPolicy:
    return _POLICIES.get(number, FallbackPolicy.UNDEFINED)  # proto3 enums hold any number


def _movies(answer: ListAnswer) -> list[public.RecommendedMovie]:
    return [_recommended(item, rank) for rank, item in enumerate(answer.items, answer.first_rank)]


def _recommended(item: Item, rank: int) -> public.RecommendedMovie:
    return public.RecommendedMovie(
        movie=_movie(item.movie),
        rank=rank,
        score=item.score,
        source=item.source,
        explanation=[
            public.FeatureContribution(feature=c.feature, value=c.value, contribution=c.contribution)
            for c in item.explanation
        ],
        because_of=[
            public.LikedMovie(movie_id=liked.movie_id, title=liked.title, weight=liked.weight)
            for liked in item.because_of
        ],
    )


def _retrieval(standing: RetrievalStanding) -> public.RetrievalStanding:
    return public.RetrievalStanding(score=standing.score, rank=standing.rank, cut_score=standing.cut_score)


def _ranking(standing: RankingStanding) -> public.RankingStanding:
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
            )
            for comparison in standing.comparisons
        ],
    )


def _movie(movie: Movie) -> public.Movie:
    return public.Movie(
        movie_id=movie.movie_id,
        title=movie.title,
        year=movie.year,
        genres=movie.genres,
        rating_count=movie.rating_count,
        rating_mean=movie.rating_mean,
        tmdb_id=movie.tmdb_id,
    )
