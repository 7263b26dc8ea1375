"""Lists of movies like one movie: the index of neighbours, filled up by shared genres."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from gateway.catalogue import Catalogue, Scored
from gateway.deadlines import Budgets, Deadline
from gateway.fallback import Model, Outcome
from gateway.metrics import GatewayMetrics
from gateway.pages import Course, ListAnswer, Page, Sources, assemble
from gateway.ports import (
    SimilarAnswer,
    SimilarityMethod,
    SimilarityStage,
    SimilarQuery,
    Stage,
    StageError,
    StageFailure,
)
from gateway.requests import SimilarRequest

_MAX_EXCLUDED: Final = 100_000
"""What the index accepts; a page leaves the rest out itself."""

_OUTCOMES: Final[Mapping[SimilarityMethod, Outcome]] = MappingProxyType(
    {
        SimilarityMethod.ALS_COSINE: Outcome.NEIGHBOURS,
        SimilarityMethod.GENRE_JACCARD: Outcome.COLD_MOVIE,
    }
)


class SimilarLists:
    """Asks the index, and compares genres where it cannot answer.

    Args:
        catalogue: the catalogue to answer from now.
        similarity: the stage that holds the neighbours.
        budgets: how long it may take.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        catalogue: Callable[[], Catalogue],
        similarity: SimilarityStage,
        budgets: Budgets,
        metrics: GatewayMetrics,
    ) -> None:
        self._catalogue = catalogue
        self._similarity = similarity
        self._budgets = budgets
        self._metrics = metrics

    async def answer(self, request: SimilarRequest, deadline: Deadline) -> ListAnswer:
        """The list for a checked request.

        Raises:
            NotFoundError: the movie is not in the catalogue.
            UnavailableError: no bundle is loaded; or the index failed and the request denies fallbacks.
        """
        catalogue = self._catalogue()  # once: a bundle that arrives meanwhile is for the next request
        row = catalogue.row(request.movie_id)
        blocked = catalogue.blocked(
            request.movie_filter,
            seen_by_user_id=request.exclude_seen_by_user_id,
            exclude_movie_ids=(request.movie_id,),
        )
        page = Page(catalogue, blocked, request.limit)
        sources: Sources = {
            Model.GENRE_JACCARD: lambda: catalogue.alike_by_genre(row, page.blocked, page.missing)
        }
        has_genres = bool(catalogue.movies.genres_of(row))
        finish = partial(
            _finish, request, page, sources, Model.GENRE_JACCARD if has_genres else Model.NOT_AVAILABLE
        )
        try:
            answer = await self._find(request, catalogue, deadline)
        except StageError as error:
            return finish(Outcome.INDEX_FAILED, failure=error.failure)
        neighbours = self._admitted(answer, page)
        if answer.method is SimilarityMethod.ALS_COSINE:
            sources[Model.ALS_COSINE] = lambda: neighbours
        elif neighbours.movie_rows.size >= page.missing:
            # A shorter list by genres is not the start of ours: the index breaks ties in its own way.
            sources[Model.GENRE_JACCARD] = lambda: neighbours
        return finish(_OUTCOMES[answer.method])

    async def _find(self, request: SimilarRequest, catalogue: Catalogue, deadline: Deadline) -> SimilarAnswer:
        user_id = request.exclude_seen_by_user_id
        seen = () if user_id is None else catalogue.seen_movie_ids(user_id)[:_MAX_EXCLUDED].tolist()
        query = SimilarQuery(
            movie_id=request.movie_id,
            limit=request.limit,
            movie_filter=request.movie_filter,
            exclude_movie_ids=tuple(seen),
        )
        seconds = deadline.stage_seconds(Stage.SIMILARITY, self._budgets.stages[Stage.SIMILARITY])
        return await self._similarity.find(query, seconds=seconds)

    def _admitted(self, answer: SimilarAnswer, page: Page) -> Scored:
        """The neighbours that may be shown; another bundle's may be unknown here, or blocked."""
        rows = page.catalogue.movies.ids.rows(answer.movie_ids)
        known = rows >= 0
        self._metrics.unknown_items.inc(int((~known).sum()))
        shown = known & ~page.blocked[rows]
        return Scored(rows[shown], answer.scores[shown], answer.bundle_id)


def _finish(
    request: SimilarRequest,
    page: Page,
    sources: Sources,
    when_empty: Model,
    outcome: Outcome,
    *,
    failure: StageFailure | None = None,
) -> ListAnswer:
    course = Course(outcome, request.fallback_policy, filtered=bool(request.movie_filter), failure=failure)
    course.refuse_if_denied()
    return assemble(page, course, sources, when_empty=when_empty)
