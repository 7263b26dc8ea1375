"""Lists of movies like one movie: the index of neighbours, filled up by shared genres."""

from functools import reduce
from typing import Final

import numpy as np

from gateway.fallback import Model, Outcome
from gateway.lists.catalogue import Catalogue, Catalogues, ScoredMovies, catalogue_with
from gateway.lists.list_builder import ListAnswer, ListBuilder, Sources, StageOutcome, assemble
from gateway.metrics import GatewayMetrics
from gateway.requests import SimilarRequest
from gateway.stages.deadlines import Budgets, Deadline
from serving.ids import NO_IDS, Ids
from serving.limits import STAGE_LIMITS
from serving.stages.similarity import SimilarityMethod, SimilarMovies, SimilarQuery
from serving.stages.stage import FallbackReason, Stage, StageError, StageFailure, StageName

_MAX_EXCLUDED: Final = int(STAGE_LIMITS["exclude_movie_ids"].high)
_MAX_ASKED: Final = int(STAGE_LIMITS["limit"].high)
"""What the index accepts; a list leaves the rest out itself."""


class SimilarLists:
    """Asks the index, and compares genres where it cannot answer.

    Args:
        catalogues: that of the index's bundle answers; when the index cannot, the first that knows the movie.
        similarity: the stage that holds the neighbours.
        budgets: how long it may take.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        catalogues: Catalogues,
        similarity: Stage[SimilarQuery, SimilarMovies],
        budgets: Budgets,
        metrics: GatewayMetrics,
    ) -> None:
        self._catalogues = catalogues
        self._similarity = similarity
        self._budgets = budgets
        self._metrics = metrics

    async def answer(
        self, request: SimilarRequest, deadline: Deadline, seen_elsewhere: Ids = NO_IDS
    ) -> ListAnswer:
        """The list for a checked request.

        Args:
            request: the request.
            deadline: when the answer must be there.
            seen_elsewhere: what the user of the request has seen, where no catalogue knows it.

        Raises:
            NotFoundError: the movie is not in the catalogue.
            UnavailableError: no bundle is loaded; or the index failed and the request denies fallbacks.
        """
        catalogue = catalogue_with(self._catalogues, request.movie_id)
        outcome = Outcome.INDEX_FAILED
        answer: SimilarMovies | None = None
        failure: StageFailure | None = None
        try:
            answer, catalogue = await self._find(request, deadline, seen_elsewhere)
            is_cold = answer.method is SimilarityMethod.GENRE_JACCARD
            outcome = Outcome.COLD_MOVIE if is_cold else Outcome.NEIGHBOURS
        except StageError as error:
            failure = error.failure
        row = catalogue.row(request.movie_id)
        stages = StageOutcome(outcome, request.fallback_policy, bool(request.movie_filter), failure)
        stages.refuse_if_denied()
        blocked = catalogue.blocked(
            request.movie_filter,
            seen_by_user_id=request.exclude_seen_by_user_id,
            exclude_movie_ids=seen_elsewhere,
        )
        blocked[row] = True
        builder = ListBuilder(catalogue, blocked, request.limit)
        sources: Sources = {
            Model.GENRE_JACCARD: lambda: catalogue.alike_by_genre(row, blocked, builder.missing)
        }
        if answer is not None:
            rows = catalogue.movies.ids.rows(answer.movie_ids)
            if n_unknown := int(np.count_nonzero(rows < 0)):
                self._metrics.unknown_items.inc(n_unknown)
            neighbours = ScoredMovies(rows, answer.scores, answer.bundle_id)
            if outcome is Outcome.NEIGHBOURS:
                sources[Model.ALS_COSINE] = lambda: neighbours
            elif builder.admitted(neighbours.movie_rows).size >= builder.missing:
                # A shorter list by genres is not the start of ours: the index breaks ties in its own way.
                sources[Model.GENRE_JACCARD] = lambda: neighbours
        has_genres = bool(catalogue.movies.genres_of(row))
        return assemble(
            builder, stages, sources, when_empty=Model.GENRE_JACCARD if has_genres else Model.NOT_AVAILABLE
        )

    async def _find(
        self, request: SimilarRequest, deadline: Deadline, seen_elsewhere: Ids
    ) -> tuple[SimilarMovies, Catalogue]:
        """The neighbours, and the catalogue of their bundle.

        What the user has seen differs from bundle to bundle, and which one answers is not known before, as
        replicas may hold either while one is rolled out. So the index leaves out what was seen by both,
        and gives as many more as one alone has: the list leaves those out itself.
        """
        held = self._catalogues.held()
        user_id = request.exclude_seen_by_user_id
        if user_id is None or seen_elsewhere.size:
            seen = [seen_elsewhere]
        else:
            seen = [one.seen_movie_ids(user_id) for one in held]
        seen_by_all = reduce(np.intersect1d, seen)
        more = max(one.size for one in seen) - seen_by_all.size
        query = SimilarQuery(
            movie_id=request.movie_id,
            limit=min(request.limit + more, _MAX_ASKED),
            movie_filter=request.movie_filter,
            exclude_movie_ids=seen_by_all[:_MAX_EXCLUDED],
        )
        seconds = deadline.stage_seconds(StageName.SIMILARITY, self._budgets)
        answer = await self._similarity.ask(query, seconds=seconds)
        catalogue = self._catalogues.find(answer.bundle_id)
        if catalogue is None:
            detail = f"answered from bundle {answer.bundle_id}"
            raise StageError(StageName.SIMILARITY, FallbackReason.BUNDLE_MISMATCH, detail)
        if catalogue.bundle_id in {one.bundle_id for one in held}:
            return answer, catalogue
        return await self._find(request, deadline, seen_elsewhere)  # it came while the index answered
