"""Lists for one user: candidates, ordered by the ranker, filled up with what is popular."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from gateway.fallback import Model, Outcome
from gateway.lists.catalogue import Catalogue, Catalogues, LikedMovie, ScoredMovies
from gateway.lists.list_builder import ListAnswer, ListBuilder, Sources, StageOutcome, assemble
from gateway.metrics import GatewayMetrics
from gateway.requests import PersonalRequest
from gateway.stages.deadlines import Budgets, Deadline
from serving.ids import Rows
from serving.stages.candidate import CandidateList, CandidateQuery, LikedMovies, UserVector
from serving.stages.ranking import RankedList, RankingProbe, RankingQuery
from serving.stages.stage import FallbackReason, Stage, StageError, StageFailure, StageName


@dataclass(frozen=True)
class PersonalResult:
    """A list, and what the stages said on the way to it; none where they failed or were not asked."""

    answer: ListAnswer
    candidates: CandidateList | None = None
    """Without those that must not be shown."""
    ranked: RankedList | None = None


class PersonalPipeline:
    """Asks for candidates, has them ranked, and steps down where a stage cannot answer.

    Args:
        catalogues: that of the candidates' bundle answers; when there are none, that of the bundle that the
            request names, or the current one.
        candidates: stage one.
        ranking: stage two.
        budgets: how long the stages may take.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        catalogues: Catalogues,
        candidates: Stage[CandidateQuery, CandidateList],
        ranking: Stage[RankingQuery, RankedList],
        budgets: Budgets,
        metrics: GatewayMetrics,
    ) -> None:
        self._catalogues = catalogues
        self._candidates = candidates
        self._ranking = ranking
        self._budgets = budgets
        self._metrics = metrics

    async def run(
        self, request: PersonalRequest, deadline: Deadline, *, probe_id: int | None = None
    ) -> PersonalResult:
        """The list for a checked request, and how it came about.

        Args:
            request: the request.
            deadline: when the answer must be there.
            probe_id: a movie for the stages to tell of on the way; it does not change the list.

        Raises:
            UnavailableError: no bundle is loaded; or a stage failed and the request denies fallbacks.
            NotFoundError: the user is unknown and the request denies fallbacks.
        """
        named = self._catalogues.find(request.bundle_id) or self._catalogues.get()
        try:
            candidates = await self._retrieve(request, deadline, probe_id)
        except StageError as error:
            return _Draft(request, named).finish(Outcome.CANDIDATES_FAILED, error.failure)
        held = self._catalogues.find(candidates.bundle_id)
        draft = _Draft(request, held or named)
        draft.add_candidates(candidates, self._metrics)
        if held is None:  # first: of such a bundle, nothing but the order is worth showing
            detail = f"answered from bundle {candidates.bundle_id}"
            mismatch = StageFailure(StageName.CANDIDATE, FallbackReason.BUNDLE_MISMATCH, detail)
            has_any = draft.candidates.movie_ids.size > 0
            return draft.finish(Outcome.RANKING_FAILED if has_any else Outcome.CANDIDATES_FAILED, mismatch)
        if not draft.candidates.movie_ids.size:
            return draft.finish(_without_candidates(candidates))
        try:
            ranked = await self._rank(request, draft.candidates, deadline)
        except StageError as error:
            return draft.finish(Outcome.RANKING_FAILED, error.failure)
        draft.add_ranking(ranked, self._metrics)
        return draft.finish(Outcome.RANKED)

    async def _retrieve(
        self, request: PersonalRequest, deadline: Deadline, probe_id: int | None
    ) -> CandidateList:
        query = CandidateQuery(
            user_id=request.user_id,
            bundle_id=request.bundle_id,
            movie_filter=request.movie_filter,
            exclude_movie_ids=request.exclude_movie_ids,
            include_seen=request.include_seen,
            history=request.history,
            because_of=request.because_of,
            probe_movie_ids=() if probe_id is None else (probe_id,),
            return_seen=not request.include_seen and self._catalogues.get().seen is None,
        )
        seconds = deadline.stage_seconds(StageName.CANDIDATE, self._budgets)
        return await self._candidates.ask(query, seconds=seconds)

    async def _rank(
        self, request: PersonalRequest, candidates: CandidateList, deadline: Deadline
    ) -> RankedList:
        query = RankingQuery(
            user_id=request.user_id,
            movie_ids=candidates.movie_ids,
            retrieval_scores=candidates.scores,
            bundle_id=candidates.bundle_id,
            limit=request.limit,
            explain_features=request.explain_features,
            diversity=request.diversity,
            history=request.history,
            probes=tuple(
                RankingProbe(probe.movie_id, probe.score, probe.rank, probe.source_ranks)
                for probe in candidates.probes
                if probe.score is not None and probe.rank is not None
            ),
            source_ranks=candidates.source_ranks,
        )
        seconds = deadline.stage_seconds(StageName.RANKING, self._budgets)
        return await self._ranking.ask(query, seconds=seconds)


class _Draft:
    """A list in the making: what the stages have given so far, and what there is without them.

    Args:
        request: what was asked for.
        catalogue: where movies are looked up.
    """

    candidates: CandidateList
    """Once added: those that may be shown."""
    _rows: Rows
    """Catalogue rows of `candidates`."""

    def __init__(self, request: PersonalRequest, catalogue: Catalogue) -> None:
        self._request = request
        self._catalogue = catalogue
        blocked = catalogue.blocked(
            request.movie_filter,
            seen_by_user_id=None if request.include_seen else request.user_id,
            exclude_movie_ids=request.exclude_movie_ids,
        )
        self._builder = builder = ListBuilder(catalogue, blocked, request.limit)
        if request.history.movie_ids and not request.include_seen:
            self._builder.block(catalogue.movies.ids.rows(request.history.movie_ids))
        # Without a reference to the draft, which would keep itself alive until the next garbage collection.
        self._sources: Sources = {
            Model.POPULARITY_FALLBACK: lambda: catalogue.most_popular(blocked, builder.missing)
        }
        self._ranked: RankedList | None = None

    def add_candidates(self, candidates: CandidateList, metrics: GatewayMetrics) -> None:
        """Adds the candidates that may be shown.

        Retrieval leaves out what the request leaves out, but by its own bundle: if that is not held here,
        movies may be unknown, or seen. They go before ranking, so that ranking still returns a whole page.
        """
        if candidates.seen_movie_ids.size:
            self._builder.block(self._catalogue.movies.ids.rows(candidates.seen_movie_ids))
        rows = self._catalogue.movies.ids.rows(candidates.movie_ids)
        shown = rows >= 0
        if not shown.all():
            metrics.unknown_items.inc(int((~shown).sum()))
        shown &= ~self._builder.blocked[rows]
        if not shown.all():
            rows, candidates = rows[shown], candidates.where(shown)
        self.candidates = candidates
        self._rows = rows
        in_order = partial(_in_order, self._catalogue, rows, candidates)
        self._sources[Model.ALS_ONLY] = in_order
        self._sources[Model.TWO_STAGE] = in_order  # until they are ranked: none need no ranking

    def add_ranking(self, ranked: RankedList, metrics: GatewayMetrics) -> None:
        """Adds their order, and keeps movies that ranking does not know from coming back as fill."""
        ids = self._catalogue.movies.ids
        if ranked.unknown_movie_ids.size:
            metrics.unknown_items.inc(ranked.unknown_movie_ids.size)
            self._builder.block(ids.rows(ranked.unknown_movie_ids))
        rows = ids.rows(ranked.movie_ids)
        places = (self._rows == rows[:, None]).argmax(axis=1)  # less work than a dict of the candidates
        in_rank_order = ScoredMovies(
            rows,
            ranked.scores,
            ranked.bundle_id,
            ranked.explanations,
            _likes_at(self._catalogue, self.candidates.because_of, places),
            self.candidates.sources_at(places),
        )
        self._sources[Model.TWO_STAGE] = lambda: in_rank_order
        self._ranked = ranked

    def finish(self, outcome: Outcome, failure: StageFailure | None = None) -> PersonalResult:
        """Takes from the ladder what the outcome of the stages calls for.

        Raises:
            UnavailableError: a stage failed and the request denies fallbacks.
            NotFoundError: the user is unknown and the request denies fallbacks.
        """
        request, ranked = self._request, self._ranked
        stages = StageOutcome(outcome, request.fallback_policy, bool(request.movie_filter), failure)
        stages.refuse_if_denied(request.user_id)
        answer = assemble(
            self._builder,
            stages,
            self._sources,
            when_empty=Model.POPULARITY_FALLBACK,
            base_value=ranked.base_value if ranked is not None and request.explain_features else None,
        )
        if outcome is Outcome.CANDIDATES_FAILED:
            return PersonalResult(answer)
        return PersonalResult(answer, self.candidates, ranked)


def _without_candidates(candidates: CandidateList) -> Outcome:
    """Why there are none."""
    if candidates.user_vector is UserVector.NONE:
        return Outcome.UNKNOWN_USER
    return Outcome.SHORT_HISTORY if candidates.short_history else Outcome.NOTHING_TO_RANK


def _in_order(catalogue: Catalogue, rows: Rows, candidates: CandidateList) -> ScoredMovies:
    """The candidates as they came, with their reasons."""
    places = np.arange(rows.size)
    return ScoredMovies(
        rows,
        candidates.order_scores,
        candidates.bundle_id,
        because_of=_likes_at(catalogue, candidates.because_of, places),
        candidate_sources=candidates.sources_at(places),
    )


def _likes_at(
    catalogue: Catalogue, because_of: LikedMovies, places: npt.NDArray[np.intp]
) -> Sequence[tuple[LikedMovie, ...]]:
    """The likes that speak for the candidates at some places; nothing where they were not asked for."""
    if not because_of.movie_ids.size:
        return ()
    rows = catalogue.movies.ids.rows(because_of.movie_ids[places])
    weights = because_of.weights[places]
    return [_liked(catalogue, *one) for one in zip(rows.tolist(), weights.tolist(), strict=True)]


def _liked(catalogue: Catalogue, rows: Sequence[int], weights: Sequence[float]) -> tuple[LikedMovie, ...]:
    """Reasons of one movie; row -1 is none, or one that the catalogue does not know."""
    return tuple(
        LikedMovie(int(catalogue.movies.ids.ids[row]), catalogue.content.titles[row], weight)
        for row, weight in zip(rows, weights, strict=True)
        if row >= 0
    )
