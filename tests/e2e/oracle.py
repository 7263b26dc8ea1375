"""What the answers must be, computed again from the bundle, without a server."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from candidate_service.retrieval import Retriever
from gateway.lists.catalogue import Catalogue
from ranking_service.ranking import Ranker
from serving.bundle.factors import read_item_factors, read_ratings
from serving.bundle.store import BundleStore
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ratings import RatedMovies, Ratings
from serving.similarity import unit_factors
from serving.stages.candidate import CandidateList, CandidateQuery
from serving.stages.ranking import RankingQuery
from serving.stages.similarity import SimilarQuery
from similarity_service.neighbours import SimilarityIndex

Scored = list[tuple[int, float]]
"""Movie ids and scores, best first."""


@dataclass(frozen=True)
class Wish:
    """What a personal list is asked for."""

    user_id: int = 0
    movie_filter: MovieFilter = UNRESTRICTED
    excluded: tuple[int, ...] = ()
    include_seen: bool = False
    history: RatedMovies = field(default_factory=RatedMovies)
    diversity: float = 0


@dataclass(frozen=True, repr=False)  # hypothesis prints what fails
class Oracle:
    """The domain classes of all servers, over one bundle."""

    catalogue: Catalogue
    ratings: Ratings
    retriever: Retriever
    ranker: Ranker
    index: SimilarityIndex
    cold: frozenset[int]
    """Ids of the movies that ALS knows nothing of."""

    @classmethod
    def load(cls, root: Path, bundle_id: str | None = None) -> "Oracle":
        """Read a bundle; the current one if none is named."""
        store = BundleStore(root)
        bundle_id = bundle_id or store.pointer().bundle_id
        folder = store.folder(bundle_id, "candidate")
        catalogue = Catalogue.load(store, bundle_id)
        warm = np.any(unit_factors(read_item_factors(folder)), axis=1)
        return cls(
            catalogue=catalogue,
            ratings=read_ratings(folder),
            retriever=Retriever.load(store, bundle_id),
            ranker=Ranker.load(store, bundle_id),
            index=SimilarityIndex.load(store, bundle_id),
            cold=frozenset(catalogue.movies.ids.ids[~warm].tolist()),
        )

    @property
    def bundle_id(self) -> str:
        """The bundle."""
        return self.catalogue.bundle_id

    @property
    def movie_ids(self) -> list[int]:
        """Of the whole catalogue."""
        ids: list[int] = self.catalogue.movies.ids.ids.tolist()
        return ids

    def seen(self, user_id: int) -> frozenset[int]:
        """What a user has rated."""
        history = self.ratings.of(self.ratings.users.row(user_id))
        return frozenset(self.catalogue.movies.ids.ids[history.movie_rows].tolist())

    def matching(self, movie_filter: MovieFilter) -> frozenset[int]:
        """The movies that a filter lets through."""
        movies = self.catalogue.movies
        return frozenset(movies.ids.ids[movie_filter.matches(movies)].tolist())

    def als(self, wish: Wish) -> Scored:
        """All candidates in the order of stage one."""
        candidates = self._candidates(wish)
        return list(zip(candidates.movie_ids.tolist(), candidates.scores.tolist(), strict=True))

    def two_stage(self, wish: Wish, limit: int, unknown: Sequence[int] = ()) -> Scored:
        """Candidates in the ranker's order, without movies that are unknown to who asks for it."""
        candidates = self._candidates(wish)
        candidates = candidates.where(~np.isin(candidates.movie_ids, unknown))
        query = RankingQuery(
            user_id=wish.user_id,
            movie_ids=candidates.movie_ids,
            retrieval_scores=candidates.scores,
            source_ranks=candidates.source_ranks,
            limit=limit,
            history=wish.history,
            diversity=wish.diversity,
        )
        (ranked,) = self.ranker.rank([query]).lists
        return list(zip(ranked.movie_ids.tolist(), ranked.scores.tolist(), strict=True))

    def popular(self) -> Scored:
        """The whole catalogue by popularity, computed by plain sorting."""
        popularity = self.catalogue.content.popularity.tolist()
        return sorted(zip(self.movie_ids, popularity, strict=True), key=lambda one: (-one[1], one[0]))

    def similar(self, movie_id: int, limit: int, excluded: Collection[int] = ()) -> Scored:
        """Neighbours of a movie."""
        exclude_movie_ids = np.array([*excluded], dtype=np.int64)
        answer = self.index.similar(SimilarQuery(movie_id, limit, exclude_movie_ids=exclude_movie_ids))
        return list(zip(answer.movie_ids.tolist(), answer.scores.tolist(), strict=True))

    def _candidates(self, wish: Wish) -> CandidateList:
        query = CandidateQuery(
            user_id=wish.user_id,
            movie_filter=wish.movie_filter,
            exclude_movie_ids=np.array(wish.excluded, dtype=np.int64),
            include_seen=wish.include_seen,
            history=wish.history,
        )
        (candidates,) = self.retriever.retrieve([query])
        return candidates
