"""All that the public API can do: each request timed, answered and counted."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from gateway.fallback import Outcome
from gateway.lists.catalogue import (
    Catalogue,
    Catalogues,
    catalogue_with,
    require_bundles,
    require_genres,
)
from gateway.lists.list_builder import ListAnswer, StageOutcome
from gateway.lists.personal_pipeline import PersonalPipeline
from gateway.lists.popular import popular_list
from gateway.lists.recent_lists import ModelMix, RecentLists
from gateway.lists.similar import SimilarLists
from gateway.lists.step_down_log import StepDownLog
from gateway.lists.users import UserAnswer, ratings_of, user_answer
from gateway.lists.why import WhyAnswer, why_answer
from gateway.metrics import GatewayMetrics, Method
from gateway.requests import (
    PersonalRequest,
    PopularRequest,
    SearchRequest,
    SimilarRequest,
    UserRequest,
    WhyRequest,
)
from gateway.stages.deadlines import Budgets, Deadline
from gateway.stages.monitor import StageMonitor, StageStatus
from serving.errors import UnsupportedError
from serving.ids import NO_IDS, Ids
from serving.stages.candidate import CandidateList, CandidateQuery
from serving.stages.ranking import RankedList, RankingQuery
from serving.stages.similarity import SimilarMovies, SimilarQuery
from serving.stages.stage import Stage, StageError, StageFailure, StageName


@dataclass(frozen=True)
class MoviesAnswer:
    """Catalogue entries, the best first."""

    movie_rows: Sequence[int]
    catalogue: Catalogue
    """Where they are looked up."""


@dataclass(frozen=True)
class StatusAnswer:
    """What serves."""

    catalogues: Sequence[Catalogue]
    """Of the bundle that answers, and of the one before if it is held."""
    since: float
    """When the first began to answer; Unix seconds."""
    stages: Sequence[StageStatus]
    mix: ModelMix
    """Of the latest lists."""


class MovieApi:
    """Everything that the public API can do.

    Every method takes a checked request, and the seconds that the client leaves, None when it did not say. It
    raises DeadlineError, or UnavailableError when no bundle is loaded; one that takes a filter or a bundle
    raises InvalidArgumentError when no catalogue that is held has its genres, or is of that bundle.

    Args:
        catalogues: what lists are joined from; with ratings where it is to answer `user`.
        candidates: stage one.
        ranking: stage two.
        similarity: the index.
        budgets: how long they may take.
        batch_concurrency: users of one batch that are at work at once.
        why_movie: whether it answers `why`.
        metrics: what is counted.
        recent_lists: what `status` tells of lists.
        monitors: of the stages whose state `status` tells, in the order in which lists ask them.
    """

    def __init__(
        self,
        *,
        catalogues: Catalogues,
        candidates: Stage[CandidateQuery, CandidateList],
        ranking: Stage[RankingQuery, RankedList],
        similarity: Stage[SimilarQuery, SimilarMovies],
        budgets: Budgets,
        batch_concurrency: int,
        why_movie: bool,
        metrics: GatewayMetrics,
        recent_lists: RecentLists,
        monitors: Sequence[StageMonitor] = (),
    ) -> None:
        self._catalogues = catalogues
        self._candidates = candidates
        self._personal_pipeline = PersonalPipeline(
            catalogues=catalogues, candidates=candidates, ranking=ranking, budgets=budgets, metrics=metrics
        )
        self._similar_lists = SimilarLists(
            catalogues=catalogues, similarity=similarity, budgets=budgets, metrics=metrics
        )
        self._why_movie = why_movie
        self._budgets = budgets
        self._batch_concurrency = batch_concurrency
        self._answers = cache(metrics.answers.labels)  # looking labels up costs more than counting
        self._fallbacks = cache(metrics.fallbacks.labels)
        self._degraded = cache(metrics.degraded.labels)
        self._step_downs = StepDownLog()
        self._recent_lists = recent_lists
        self._monitors = monitors

    async def popular(self, request: PopularRequest, client_seconds: float | None) -> ListAnswer:
        """The most popular movies."""
        deadline = self._begin(client_seconds)
        require_genres(self._catalogues, {"": request.movie_filter})
        seen, failure = await self._seen_elsewhere(request.exclude_seen_by_user_id, deadline)
        answer = _weakened(popular_list(self._catalogues.get(), request, seen), failure)
        self._report(Method.POPULAR, answer)
        return answer

    async def personal(self, request: PersonalRequest, client_seconds: float | None) -> ListAnswer:
        """Movies for one user.

        Raises:
            NotFoundError: nothing says what to recommend to the user, and the request denies fallbacks.
            UnavailableError: a stage failed and the request denies fallbacks.
        """
        deadline = self._begin(client_seconds)
        require_bundles(self._catalogues, {"": request.bundle_id})
        require_genres(self._catalogues, {"": request.movie_filter})
        answer = (await self._personal_pipeline.run(request, deadline)).answer
        self._report(Method.PERSONAL, answer, StageName.CANDIDATE)
        return answer

    async def personal_batch(
        self, requests: Sequence[PersonalRequest], client_seconds: float | None
    ) -> list[ListAnswer]:
        """Movies for 1 to 100 users, in their order. A fault steps down one user's list alone."""
        deadline = self._begin(client_seconds, self._budgets.batch)
        self._catalogues.get()  # without a bundle the batch fails as a whole, and before any work
        require_bundles(
            self._catalogues,
            {f"requests[{place}].": request.bundle_id for place, request in enumerate(requests)},
        )
        require_genres(
            self._catalogues,
            {f"requests[{place}].": request.movie_filter for place, request in enumerate(requests)},
        )
        places = asyncio.Semaphore(self._batch_concurrency)

        async def one(request: PersonalRequest) -> ListAnswer:
            async with places:
                answer = (await self._personal_pipeline.run(request, deadline)).answer
            self._report(Method.BATCH, answer, StageName.CANDIDATE)
            return answer

        async with asyncio.TaskGroup() as group:  # a cancelled batch cancels all that it began
            tasks = [group.create_task(one(request)) for request in requests]
        return [task.result() for task in tasks]

    async def similar(self, request: SimilarRequest, client_seconds: float | None) -> ListAnswer:
        """Movies like one movie.

        Raises:
            NotFoundError: the movie is not in the catalogue.
            UnavailableError: a stage failed and the request denies fallbacks.
        """
        deadline = self._begin(client_seconds)
        require_genres(self._catalogues, {"": request.movie_filter})
        catalogue_with(self._catalogues, request.movie_id).row(request.movie_id)  # raises NotFoundError first
        seen, failure = await self._seen_elsewhere(request.exclude_seen_by_user_id, deadline)
        if failure is not None:
            outcome = Outcome.CANDIDATES_FAILED
            StageOutcome(outcome, request.fallback_policy, filtered=False, failure=failure).refuse_if_denied()
        answer = _weakened(await self._similar_lists.answer(request, deadline, seen), failure)
        self._report(Method.SIMILAR, answer, StageName.SIMILARITY)
        return answer

    def require_why(self) -> None:
        """Checks that `why` is answered here.

        Raises:
            UnsupportedError: it is turned off.
        """
        if not self._why_movie:
            raise UnsupportedError(Method.WHY)

    async def why(self, request: WhyRequest, client_seconds: float | None) -> WhyAnswer:
        """Why a movie is in, or not in, the list that `personal` gives.

        Raises:
            UnsupportedError: it is turned off.
            NotFoundError: the movie is not in the catalogue.
        """
        self.require_why()
        deadline = self._begin(client_seconds)
        require_genres(self._catalogues, {"": request.in_question.movie_filter})
        why = await why_answer(self._catalogues, self._personal_pipeline, request, deadline)
        self._report(Method.WHY, why.answer, StageName.CANDIDATE)
        return why

    async def movie(self, movie_id: int, client_seconds: float | None) -> MoviesAnswer:
        """One catalogue entry; lists may still come from the bundle before, and so may their movies.

        Raises:
            NotFoundError: the movie is in no catalogue that is held.
        """
        self._begin(client_seconds)
        catalogue = catalogue_with(self._catalogues, movie_id)
        return MoviesAnswer([catalogue.row(movie_id)], catalogue)

    async def search(self, request: SearchRequest, client_seconds: float | None) -> MoviesAnswer:
        """Movies by their titles."""
        self._begin(client_seconds)
        require_genres(self._catalogues, {"": request.movie_filter})
        catalogue = self._catalogues.get()
        blocked = catalogue.blocked(request.movie_filter)
        rows = await catalogue.titles.search(request.query, blocked, request.limit)
        return MoviesAnswer(rows.tolist(), catalogue)

    async def taste(self, limit: int, client_seconds: float | None) -> MoviesAnswer:
        """At most `limit` movies that a newcomer can be asked about, the one to ask about first in front."""
        self._begin(client_seconds)
        catalogue = self._catalogues.get()
        return MoviesAnswer(catalogue.lists.taste_rows[:limit].tolist(), catalogue)

    def require_user(self) -> None:
        """Checks that `user` is answered here.

        Raises:
            UnsupportedError: it is turned off.
        """
        ratings_of(self._catalogues.get())

    async def user(self, request: UserRequest, client_seconds: float | None) -> UserAnswer:
        """What the current bundle knows of a user.

        Raises:
            UnsupportedError: it is turned off.
            NotFoundError: the bundle does not know the user.
        """
        self._begin(client_seconds)
        return user_answer(self._catalogues.get(), request)

    async def status(self, client_seconds: float | None) -> StatusAnswer:
        """What serves now, and what the latest lists were made by."""
        self._begin(client_seconds)
        catalogues, since = self._catalogues.held(), self._catalogues.current_since()
        stages = await asyncio.gather(*(monitor.status() for monitor in self._monitors))
        return StatusAnswer(catalogues, since, stages, self._recent_lists.mix())

    async def _seen_elsewhere(
        self, user_id: int | None, deadline: Deadline
    ) -> tuple[Ids, StageFailure | None]:
        """What a user has seen, where the catalogues do not know it; or why nobody says."""
        if user_id is None or self._catalogues.get().seen is not None:
            return NO_IDS, None
        query = CandidateQuery(user_id=user_id, limit=1, return_seen=True)
        try:
            seconds = deadline.stage_seconds(StageName.CANDIDATE, self._budgets)
            return (await self._candidates.ask(query, seconds=seconds)).seen_movie_ids, None
        except StageError as error:
            return NO_IDS, error.failure

    def _begin(self, client_seconds: float | None, longest: float | None = None) -> Deadline:
        longest = self._budgets.request if longest is None else longest
        return Deadline.on_arrival(client_seconds, longest, reserve=self._budgets.reserve)

    def _report(self, method: Method, answer: ListAnswer, first_stage: StageName | None = None) -> None:
        """Counts an answer; has it noted when a fault made it weaker.

        Args:
            method: the rpc.
            answer: what the client gets.
            first_stage: the service behind a reason that is no fault.
        """
        self._answers(method, answer.model).inc()
        self._recent_lists.note(answer.model, degraded=answer.degraded)
        if answer.reason is not None:
            stage = first_stage if answer.failure is None else answer.failure.stage
            self._fallbacks(stage, answer.reason).inc()
        if answer.failure is not None:
            self._degraded(method).inc()
            self._step_downs.note(answer.failure, answer.model)


def _weakened(answer: ListAnswer, failure: StageFailure | None) -> ListAnswer:
    """The answer, degraded if nobody could say what the user has seen: such movies may be in it."""
    if failure is None or answer.failure is not None:
        return answer
    return replace(answer, reason=failure.reason, failure=failure)
