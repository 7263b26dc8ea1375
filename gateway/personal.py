"""Lists for one user: candidates, ordered by the ranker, filled up with what is popular."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gateway.catalogue import Catalogue, Catalogues, Scored
from gateway.deadlines import Budgets, Deadline
from gateway.fallback import FallbackReason, Model, Outcome
from gateway.metrics import GatewayMetrics
from gateway.pages import Course, LikedMovie, ListAnswer, Page, Sources, assemble
from gateway.ports import (
    CandidateList,
    CandidateQuery,
    CandidateStage,
    LikedMovies,
    RankedList,
    RankingProbe,
    RankingQuery,
    RankingStage,
    Stage,
    StageError,
    StageFailure,
    UserVector,
    usable,
)
from gateway.requests import PersonalRequest


@dataclass(frozen=True)
class Trace:
    """A list, and what the stages said on the way to it; none where they failed or were not asked."""

    answer: ListAnswer
    catalogue: Catalogue
    """What the list was joined from."""
    candidates: CandidateList | None = None
    """Without those that must not be shown."""
    ranked: RankedList | None = None
    base_value: float = 0.0
    """What a score is without any contribution; beside `ranked`."""


class PersonalLists:
    """Asks for candidates, has them ranked, and steps down where a stage cannot answer.

    Args:
        catalogues: that of the candidates' bundle answers, the current one when there are none.
        candidates: stage one.
        ranking: stage two.
        budgets: how long the stages may take.
        candidates_per_user: how many candidates are ranked.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        catalogues: Catalogues,
        candidates: CandidateStage,
        ranking: RankingStage,
        budgets: Budgets,
        candidates_per_user: int,
        metrics: GatewayMetrics,
    ) -> None:
        self._catalogues = catalogues
        self._candidates = candidates
        self._ranking = ranking
        self._budgets = budgets
        self._candidates_per_user = candidates_per_user
        self._metrics = metrics

    async def answer(self, request: PersonalRequest, deadline: Deadline) -> ListAnswer:
        """The list for a checked request.

        Raises:
            UnavailableError: no bundle is loaded; or a stage failed and the request denies fallbacks.
            NotFoundError: the user is unknown and the request denies fallbacks.
        """
        return (await self.trace(request, deadline)).answer

    async def trace(
        self, request: PersonalRequest, deadline: Deadline, *, probe_id: int | None = None
    ) -> Trace:
        """The list for a checked request, and how it came about.

        Args:
            request: the request.
            deadline: when the answer must be there.
            probe_id: a movie for the stages to tell of on the way; it does not change the list.

        Raises:
            UnavailableError: no bundle is loaded; or a stage failed and the request denies fallbacks.
            NotFoundError: the user is unknown and the request denies fallbacks.
        """
        current = self._catalogues.get()
        try:
            candidates, bundle_id = await self._retrieve(request, deadline, probe_id)
        except StageError as error:
            finish = partial(_finish, request, *_begin(request, current))
            return Trace(finish(Outcome.CANDIDATES_FAILED, failure=error.failure), current)
        catalogue = self._catalogues.find(bundle_id)
        page, sources = _begin(request, catalogue or current)
        finish = partial(_finish, request, page, sources)
        trace = partial(Trace, catalogue=page.catalogue)
        candidates = self._admitted(candidates, page)
        rows = page.catalogue.movies.ids.rows(candidates.movie_ids)
        in_als_order = Scored(rows, candidates.scores, bundle_id)
        sources[Model.ALS_ONLY] = lambda: in_als_order
        try:
            _require_held(catalogue, bundle_id)  # first: of such a bundle, nothing else is worth saying
            if candidates.user_vector is UserVector.NONE:
                return trace(finish(Outcome.UNKNOWN_USER), candidates=candidates)
            if not rows.size:
                sources[Model.TWO_STAGE] = lambda: in_als_order  # an empty list needs no ranking
                return trace(finish(Outcome.NOTHING_TO_RANK), candidates=candidates)
            ranked, base_value = await self._rank(request, candidates, deadline, bundle_id=bundle_id)
        except StageError as error:
            if not rows.size:  # nothing in them can be shown
                return trace(finish(Outcome.CANDIDATES_FAILED, failure=error.failure))
            answer = finish(Outcome.RANKING_FAILED, failure=error.failure)
            return trace(_with_reasons(answer, candidates, page.catalogue), candidates=candidates)
        self._drop(ranked, page)
        in_rank_order = Scored(
            page.catalogue.movies.ids.rows(ranked.movie_ids), ranked.scores, bundle_id, ranked.explanations
        )
        sources[Model.TWO_STAGE] = lambda: in_rank_order
        answer = finish(Outcome.RANKED, base_value=base_value)
        answer = _with_reasons(answer, candidates, page.catalogue)
        return trace(answer, candidates=candidates, ranked=ranked, base_value=base_value)

    async def _retrieve(
        self, request: PersonalRequest, deadline: Deadline, probe_id: int | None
    ) -> tuple[CandidateList, str]:
        query = CandidateQuery(
            user_id=request.user_id,
            limit=self._candidates_per_user,
            movie_filter=request.movie_filter,
            exclude_movie_ids=request.exclude_movie_ids,
            include_seen=request.include_seen,
            history=request.history,
            because_of=request.because_of,
            probe_movie_ids=() if probe_id is None else (probe_id,),
        )
        seconds = deadline.stage_seconds(Stage.CANDIDATE, self._budgets.stages[Stage.CANDIDATE])
        answer = await self._candidates.generate([query], seconds=seconds)
        (found,) = answer.lists
        return usable(found), answer.bundle_id

    def _admitted(self, candidates: CandidateList, page: Page) -> CandidateList:
        """The candidates that may be shown.

        Retrieval leaves out what the request leaves out, but by its own bundle: if that is not held here,
        movies may be unknown, or seen. They go before ranking, so that ranking still returns a whole page.
        """
        rows = page.catalogue.movies.ids.rows(candidates.movie_ids)
        known = rows >= 0
        self._metrics.unknown_items.inc(int((~known).sum()))
        shown = known & ~page.blocked[rows]
        because_of = candidates.because_of
        if because_of.movie_ids.size:
            because_of = LikedMovies(because_of.movie_ids[shown], because_of.weights[shown])
        return replace(
            candidates,
            movie_ids=candidates.movie_ids[shown],
            scores=candidates.scores[shown],
            because_of=because_of,
        )

    async def _rank(
        self, request: PersonalRequest, candidates: CandidateList, deadline: Deadline, *, bundle_id: str
    ) -> tuple[RankedList, float]:
        query = RankingQuery(
            user_id=request.user_id,
            movie_ids=candidates.movie_ids,
            retrieval_scores=candidates.scores,
            limit=request.limit,
            explain_features=request.explain_features,
            diversity=request.diversity,
            history=request.history,
            probes=tuple(
                RankingProbe(probe.movie_id, probe.score, probe.rank)
                for probe in candidates.probes
                if probe.score is not None and probe.rank is not None
            ),
        )
        seconds = deadline.stage_seconds(Stage.RANKING, self._budgets.stages[Stage.RANKING])
        answer = await self._ranking.rank([query], bundle_id=bundle_id, seconds=seconds)
        (found,) = answer.lists
        return usable(found), answer.base_value

    def _drop(self, ranked: RankedList, page: Page) -> None:
        """Keeps movies that ranking does not know from coming back as fill."""
        self._metrics.unknown_items.inc(ranked.unknown_movie_ids.size)
        page.block(page.catalogue.movies.ids.rows(ranked.unknown_movie_ids))


def _require_held(catalogue: Catalogue | None, bundle_id: str) -> None:
    """Candidates whose bundle is not held here keep their order, but are not worth ranking.

    Raises:
        StageError: it is not.
    """
    if catalogue is None:
        detail = f"answered from bundle {bundle_id}"
        raise StageError(Stage.CANDIDATE, FallbackReason.BUNDLE_MISMATCH, detail)


def _with_reasons(answer: ListAnswer, candidates: CandidateList, catalogue: Catalogue) -> ListAnswer:
    """The list with the liked movies that speak for its candidates, where they were asked for."""
    if not candidates.because_of.movie_ids.size:
        return answer
    ids = np.array([item.movie.movie_id for item in answer.items])
    found = candidates.movie_ids == ids[:, None]  # a page and its candidates: less work than a dict of them
    places = found.argmax(axis=1)
    liked_ids = candidates.because_of.movie_ids[places]
    reasons = zip(
        answer.items,
        found.any(axis=1).tolist(),
        catalogue.movies.ids.rows(liked_ids).tolist(),
        candidates.because_of.weights[places].tolist(),
        strict=True,
    )
    items = tuple(
        replace(item, because_of=_liked(catalogue, rows, weights)) if is_candidate else item
        for item, is_candidate, rows, weights in reasons
    )
    return replace(answer, items=items)


def _liked(catalogue: Catalogue, rows: Sequence[int], weights: Sequence[float]) -> tuple[LikedMovie, ...]:
    """Reasons of one movie; row -1 is none, or one that the catalogue does not know."""
    return tuple(
        LikedMovie(int(catalogue.movies.ids.ids[row]), catalogue.content.titles[row], weight)
        for row, weight in zip(rows, weights, strict=True)
        if row >= 0
    )


def _begin(request: PersonalRequest, catalogue: Catalogue) -> tuple[Page, Sources]:
    """An empty page of a catalogue, and what it gives by itself."""
    blocked = catalogue.blocked(
        request.movie_filter,
        seen_by_user_id=None if request.include_seen else request.user_id,
        exclude_movie_ids=request.exclude_movie_ids
        + (() if request.include_seen else request.history.movie_ids),
    )
    page = Page(catalogue, blocked, request.limit)
    return page, {Model.POPULARITY_FALLBACK: lambda: catalogue.most_popular(blocked).part(0, page.missing)}


def _finish(
    request: PersonalRequest,
    page: Page,
    sources: Sources,
    outcome: Outcome,
    *,
    failure: StageFailure | None = None,
    base_value: float | None = None,
) -> ListAnswer:
    course = Course(outcome, request.fallback_policy, filtered=bool(request.movie_filter), failure=failure)
    course.refuse_if_denied(request.user_id)
    return assemble(
        page,
        course,
        sources,
        when_empty=Model.POPULARITY_FALLBACK,
        base_value=base_value if request.explain_features else None,
    )
