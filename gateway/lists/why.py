"""Why a movie is in, or not in, a user's list: that very list, with the movie as a probe."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto

from gateway.fallback import Model
from gateway.lists.catalogue import Catalogues, catalogue_with
from gateway.lists.list_builder import Item, ListAnswer
from gateway.lists.personal_pipeline import PersonalPipeline, PersonalResult
from gateway.requests import WhyRequest
from gateway.stages.deadlines import Deadline
from serving.explanations import Contribution
from serving.sources import Source
from serving.stages.candidate import CandidateProbe, UserVector
from serving.stages.ranking import RankedProbe


class Verdict(StrEnum):
    """Why a movie is in a list, or what keeps it out: the first that applies. As in the public enum."""

    LISTED = auto()
    FILTERED_OUT = auto()
    EXCLUDED = auto()
    SEEN = auto()
    RETRIEVAL_FAILED = auto()
    """Nobody knows: the list is what is popular."""
    UNKNOWN_USER = auto()
    """Nothing is known of the user: the list is what is popular."""
    SHORT_HISTORY = auto()
    """The user has rated so little that the list is what is popular."""
    COLD_MOVIE = auto()
    """ALS has no factors for it: it can only fill up a short list."""
    NOT_RETRIEVED = auto()
    """No source offers it, or others are offered with better ranks."""
    NOT_RANKED = auto()
    """A candidate that the ranker could not score."""
    RANKED_BELOW = auto()
    """A candidate with enough others before it to fill the list."""


@dataclass(frozen=True)
class Facts:
    """What speaks against showing a movie; all that apply. The fields are those of the public message."""

    seen: bool
    excluded: bool
    filtered_out: bool


@dataclass(frozen=True)
class RetrievalStanding:
    """Where the movie stands with ALS."""

    score: float
    rank: int
    """From 1; that it has, or would have, among all that may be recommended."""
    cut_score: float | None
    """ALS score of the last candidate that ALS offers; none when it offers none."""
    source_ranks: Mapping[Source, int]
    """Its places, from 1, among what the sources offer: those that it has, or would have."""


@dataclass(frozen=True)
class Comparison:
    """What one feature adds to the movie's score, and to that of the last movie on the list."""

    of_movie: Contribution
    of_last: Contribution


@dataclass(frozen=True)
class RankingStanding:
    """Where the movie stands with the ranker."""

    score: float
    rank: int
    """From 1; that it has, or would have, among all candidates."""
    base_value: float
    comparisons: tuple[Comparison, ...]
    """Largest difference first."""


@dataclass(frozen=True)
class WhyAnswer:
    """What is known of a movie and a list; what is not known is none."""

    movie_row: int
    """Of the list's catalogue."""
    verdict: Verdict
    rank: int | None
    """From 1; its place in the list."""
    facts: Facts
    retrieval: RetrievalStanding | None
    ranking: RankingStanding | None
    last: Item | None
    """The last movie that the list's model put there; none: the list is empty."""
    last_rank: int
    """Its place in the list."""
    score_gap: float | None
    """Its score less the movie's, both by the list's model."""
    answer: ListAnswer
    """The list."""


async def why_answer(
    catalogues: Catalogues, pipeline: PersonalPipeline, request: WhyRequest, deadline: Deadline
) -> WhyAnswer:
    """Has the list made that is in question, and reads off where the movie went.

    Args:
        catalogues: those that lists are joined from.
        pipeline: what makes the list.
        request: checked.
        deadline: when the answer must be there.

    Raises:
        UnavailableError: no bundle is loaded.
        NotFoundError: the movie is not in the catalogue that the list comes from.
    """
    catalogue_with(catalogues, request.movie_id).row(request.movie_id)  # raises NotFoundError first
    in_question = request.in_question
    result = await pipeline.run(in_question, deadline, probe_id=request.movie_id)
    catalogue = result.answer.catalogue
    row = catalogue.row(request.movie_id)
    # The gateway leaves movies out by the bundle that it joins from, retrieval by its own.
    probe = result.candidates.probes[0] if result.candidates and result.candidates.probes else None
    facts = Facts(
        seen=request.movie_id in catalogue.seen_movie_ids(in_question.user_id)
        or (probe is not None and probe.seen)
        or (result.candidates is not None and request.movie_id in result.candidates.seen_movie_ids),
        excluded=request.movie_id in in_question.exclude_movie_ids,
        filtered_out=not in_question.movie_filter.matches(catalogue.movies)[row]
        or (probe is not None and probe.filtered_out),
    )
    ranked = result.ranked.probes[0] if result.ranked and result.ranked.probes else None
    model = result.answer.model
    score_of = {
        Model.TWO_STAGE: ranked.score if ranked else None,
        Model.ALS_ONLY: probe.order_score if probe else None,
        Model.POPULARITY_FALLBACK: float(catalogue.content.popularity[row]),
    }
    places = {item.movie_row: place for place, item in enumerate(result.answer.items, 1)}
    last = next((item for item in reversed(result.answer.items) if item.source is model), None)
    score = score_of[model]
    return WhyAnswer(
        movie_row=row,
        verdict=_verdict(request, result, facts, probe, listed=row in places),
        rank=places.get(row),
        facts=facts,
        retrieval=_retrieval(result, probe),
        ranking=_ranking(result, ranked, request.n_comparisons),
        last=last,
        last_rank=places[last.movie_row] if last else 0,
        score_gap=last.score - score if last and score is not None else None,
        answer=result.answer,
    )


def _verdict(
    request: WhyRequest, result: PersonalResult, facts: Facts, probe: CandidateProbe | None, *, listed: bool
) -> Verdict:
    candidates = result.candidates
    applies = {
        Verdict.LISTED: listed,
        Verdict.FILTERED_OUT: facts.filtered_out,
        Verdict.EXCLUDED: facts.excluded,
        Verdict.SEEN: facts.seen and not request.in_question.include_seen,
        Verdict.RETRIEVAL_FAILED: candidates is None,
        Verdict.UNKNOWN_USER: candidates is not None and candidates.user_vector is UserVector.NONE,
        Verdict.SHORT_HISTORY: candidates is not None and candidates.short_history,
        Verdict.COLD_MOVIE: probe is None or probe.score is None,
        Verdict.NOT_RETRIEVED: candidates is not None and request.movie_id not in candidates.movie_ids,
        Verdict.NOT_RANKED: result.ranked is not None and not result.ranked.probes,
        Verdict.RANKED_BELOW: True,
    }
    return next(verdict for verdict in Verdict if applies[verdict])


def _retrieval(result: PersonalResult, probe: CandidateProbe | None) -> RetrievalStanding | None:
    if result.candidates is None or probe is None or probe.score is None or probe.rank is None:
        return None
    scores = result.candidates.scores
    if probe.fused_score is not None:
        of_als = result.candidates.source_ranks.get(Source.ALS)
        scores = scores[:0] if of_als is None else scores[of_als > 0]
    cut_score = float(scores.min()) if scores.size else None
    return RetrievalStanding(probe.score, probe.rank, cut_score, probe.source_ranks)


def _ranking(result: PersonalResult, probe: RankedProbe | None, n_comparisons: int) -> RankingStanding | None:
    if result.ranked is None or probe is None:
        return None
    of_last = {c.feature: c for c in result.ranked.last_explanation}
    comparisons = [Comparison(c, of_last[c.feature]) for c in probe.explanation if c.feature in of_last]
    comparisons.sort(key=lambda c: -abs(c.of_movie.contribution - c.of_last.contribution))
    return RankingStanding(
        probe.score, probe.rank, result.ranked.base_value, tuple(comparisons[:n_comparisons])
    )
