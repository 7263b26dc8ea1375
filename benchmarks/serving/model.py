"""Our models as a library, without servers: the work that every answer needs."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.messages import CANDIDATES
from candidate_service.retrieval import Retriever
from ranking_service.ranking import Ranker
from serving.bundle.store import BundleStore
from serving.stages.candidate import CandidateList, CandidateQuery
from serving.stages.ranking import RankedList, RankingQuery


class Model:
    """The retriever and the ranker of one bundle, one after the other."""

    def __init__(self, retriever: Retriever, ranker: Ranker) -> None:
        self._retriever = retriever
        self._ranker = ranker

    @classmethod
    def load(cls, bundle_root: Path) -> "Model":
        """Reads the current bundle."""
        store = BundleStore(bundle_root)
        bundle_id = store.pointer().bundle_id
        return cls(Retriever.load(store, bundle_id), Ranker.load(store, bundle_id))

    def top(self, user_ids: Sequence[int], limit: int) -> Sequence[tuple[CandidateList, RankedList]]:
        """Candidates and best movies of each user, all of them in one call of each model."""
        found = self._retriever.retrieve(
            [CandidateQuery(user_id=user_id, limit=CANDIDATES) for user_id in user_ids]
        )
        ranked = self._ranker.rank(
            [
                RankingQuery(
                    user_id=user_id,
                    movie_ids=candidates.movie_ids,
                    retrieval_scores=candidates.scores,
                    source_ranks=candidates.source_ranks,
                    limit=limit,
                )
                for user_id, candidates in zip(user_ids, found, strict=True)
            ]
        ).lists
        return list(zip(found, ranked, strict=True))
