"""Every model as a recommender from Python: `TwoStageRecommender.load("artifacts").recommend(1)`.

They answer with the functions that serve: retrieval, features, ranker and leaf tables are those of the
servers. A user whom a model knows nothing of gets what is popular, as the gateway answers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.factors import read_item_factors, read_ratings, read_user_factors
from serving.bundle.manifest import MANIFEST_NAME
from serving.bundle.ranker import RankerContent
from serving.bundle.sources import read_sources
from serving.bundle.store import BundleError, BundleStore
from serving.explanations import Explanation
from serving.fold_in import AlsParameters
from serving.ids import Rows
from serving.movies import UNKNOWN_YEAR, Movies
from serving.ratings import Ratings
from serving.retrieval import Candidates, best
from training.data.movielens.movies import MovieTable
from training.data.popularity import MovieStatistics, popularity
from training.engine.engine import Engine
from training.models.als import Als
from training.models.first_stage import FirstStage
from training.models.lists import best_unseen
from training.models.svd import Svd

_REASONS: Final = 5
"""Strongest contributions that an explanation names."""

_USERS_PER_CALL: Final = 64
"""Users whose candidates are retrieved and ranked together: more are not faster, and take more memory."""

POPULARITY: Final = "popularity_fallback"
"""Name of the last fallback, as the API has it."""


@dataclass(frozen=True)
class Recommendation:
    """One place of a list."""

    movie_id: int
    title: str
    year: int | None
    genres: tuple[str, ...]
    score: float
    """Of `model`: higher is better; scores of two models do not compare."""
    model: str
    """Which model put the movie here: the one asked, or `popularity_fallback`."""
    reasons: Explanation = ()
    """What moved the score most, if it was asked for and the model can say."""


@dataclass(frozen=True)
class CatalogueContext:
    """What a recommender knows besides its model."""

    movies: Movies
    titles: tuple[str, ...]
    ratings: Ratings
    """What was trained on: who has seen what."""
    popularity: npt.NDArray[np.float64]
    """Shape (n_movies,); 0 for a movie never rated."""

    @classmethod
    def of(cls, ratings: Ratings, table: MovieTable) -> "CatalogueContext":
        """The context of a data set."""
        statistics = MovieStatistics.of(ratings, len(table.movies.ids))
        return cls(table.movies, table.titles, ratings, popularity(statistics))

    @classmethod
    def read(cls, store: BundleStore, bundle_id: str) -> "CatalogueContext":
        """The context of a bundle."""
        candidate, gateway = (store.folder(bundle_id, name) for name in ("candidate", "gateway"))
        content = CatalogueContent.read(gateway)
        return cls(read_movies(candidate), content.titles, read_ratings(candidate), content.popularity)


@dataclass(frozen=True)
class ScoredMovies:
    """What a model answers for one user, best first. Sequences of one length."""

    movie_rows: Rows
    scores: npt.NDArray[np.floating]
    reasons: tuple[Explanation, ...] = ()
    """One per movie, or none at all."""


_NOTHING: Final = ScoredMovies(np.empty(0, np.int32), np.empty(0))


@dataclass(frozen=True)
class FilledList:
    """A user's list: the model's own movies, and behind them what is popular. Arrays of one length."""

    movie_rows: Rows
    scores: npt.NDArray[np.float64]
    """Of the model up to `n_own`, then of popularity: both do not compare."""
    n_own: int
    """Movies that the model gave."""


def bundle_at(path: Path) -> tuple[BundleStore, str]:
    """The bundle of a root, the current one, or of a bundle's own folder: its store and its bundle_id.

    Raises:
        BundleError: there is none.
    """
    if (path / MANIFEST_NAME).is_file():
        folder = path.resolve()
        store = BundleStore(folder.parent.parent)
        if store.path(folder.name) != folder:
            raise BundleError(
                f"{path} holds a bundle, but is asked only where it lies below a root, in `bundles`"
            )
        return store, folder.name
    store = BundleStore(path)
    return store, store.pointer().bundle_id


class Recommender(ABC):
    """Recommends unseen movies to users by their user_id."""

    name: str
    """As the API names the model of an answer."""

    def __init__(self, catalogue: CatalogueContext) -> None:
        self.catalogue = catalogue
        """What it knows besides its model."""

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Loads a bundle: the current one of a root with bundles, or that whose folder it is.

        Raises:
            BundleError: there is no bundle, or it is damaged.
        """
        return cls.read(*bundle_at(Path(path)))

    @classmethod
    @abstractmethod
    def read(cls, store: BundleStore, bundle_id: str) -> Self:
        """Loads one bundle of a store.

        Raises:
            BundleError: the bundle is missing or damaged.
        """

    @abstractmethod
    def scored(self, user_row: int, limit: int, *, explain: bool) -> ScoredMovies:
        """The model's own list for a known user: unseen movies, at most `limit`; maybe none."""

    def recommend(self, user_id: int, n: int = 10, *, explain: bool = False) -> list[Recommendation]:
        """The best unseen movies, best first; what the model leaves open is filled with what is popular.

        So an unknown user gets what is popular. Fewer than `n` come back when fewer are left.
        """
        row = self.catalogue.ratings.users.row(user_id)
        own = self.scored(row, n, explain=explain) if row >= 0 else _NOTHING
        filled = self._filled(row, own, n)
        return [
            self._item(
                movie_row,
                score,
                self.name if place < filled.n_own else POPULARITY,
                own.reasons[place] if place < len(own.reasons) else (),
            )
            for place, (movie_row, score) in enumerate(zip(filled.movie_rows, filled.scores, strict=True))
        ]

    def _filled(self, user_row: int, own: ScoredMovies, n: int) -> FilledList:
        """At most `n` movies; of an unknown user, row -1, nothing is seen."""
        catalogue, rows, scores = self.catalogue, own.movie_rows, own.scores.astype(np.float64, copy=False)
        if rows.size < n:
            seen = catalogue.ratings.of(user_row).movie_rows if user_row >= 0 else rows[:0]
            fill = best_unseen(catalogue.popularity, np.concatenate([seen, rows]), n - rows.size)
            rows = np.concatenate([rows, fill])
            scores = np.concatenate([scores, catalogue.popularity[fill]])
        return FilledList(rows, scores, own.movie_rows.size)

    def _item(self, movie_row: int, score: float, model: str, reasons: Explanation) -> Recommendation:
        movies = self.catalogue.movies
        year = int(movies.years[movie_row])
        return Recommendation(
            movie_id=int(movies.ids.ids[movie_row]),
            title=self.catalogue.titles[movie_row],
            year=None if year == UNKNOWN_YEAR else year,
            genres=movies.genres_of(movie_row),
            score=float(score),
            model=model,
            reasons=tuple(reason.titled(self._title) for reason in reasons),
        )

    def _title(self, movie_id: int) -> str:
        return self.catalogue.titles[self.catalogue.movies.ids.row(movie_id)]


class PopularityRecommender(Recommender):
    """The same for everybody, but for what each has seen."""

    name = POPULARITY

    @classmethod
    def fit(
        cls,
        ratings: Ratings,
        table: MovieTable,
        *,
        rating_weight: float = 1.0,
        count_weight: float = 1.0,
        min_ratings: int = 1,
    ) -> Self:
        """Counts ratings: see `training.data.popularity`."""
        scores = popularity(
            MovieStatistics.of(ratings, len(table.movies.ids)),
            rating_weight=rating_weight,
            count_weight=count_weight,
            min_ratings=min_ratings,
        )
        return cls(CatalogueContext(table.movies, table.titles, ratings, scores))

    @classmethod
    @override
    def read(cls, store: BundleStore, bundle_id: str) -> Self:
        return cls(CatalogueContext.read(store, bundle_id))

    @override
    def scored(self, user_row: int, limit: int, *, explain: bool) -> ScoredMovies:
        scores = self.catalogue.popularity
        rows = best_unseen(scores, self.catalogue.ratings.of(user_row).movie_rows, limit)
        return ScoredMovies(rows, scores[rows])


class SVDRecommender(Recommender):
    """Predicted stars: a baseline that no bundle holds. Loading a bundle fits it on the bundle's ratings."""

    name = "svd"

    def __init__(self, catalogue: CatalogueContext, model: Svd) -> None:
        super().__init__(catalogue)
        self._model = model
        self._unrated: npt.NDArray[np.bool_] = (
            np.bincount(catalogue.ratings.movie_rows, minlength=len(catalogue.movies.ids)) == 0
        )

    @classmethod
    def fit(cls, ratings: Ratings, table: MovieTable, *, n_factors: int = 50, seed: int = 0) -> Self:
        """Factorises the ratings."""
        model = Svd.fit(ratings, len(table.movies.ids), n_factors=n_factors, seed=seed)
        return cls(CatalogueContext.of(ratings, table), model)

    @classmethod
    @override
    def read(cls, store: BundleStore, bundle_id: str) -> Self:
        catalogue = CatalogueContext.read(store, bundle_id)
        return cls(catalogue, Svd.fit(catalogue.ratings, len(catalogue.movies.ids)))

    @override
    def scored(self, user_row: int, limit: int, *, explain: bool) -> ScoredMovies:
        scores = self._model.scores(np.array([user_row], dtype=np.int32))[0]
        scores[self._unrated] = -np.inf
        rows = best_unseen(scores, self.catalogue.ratings.of(user_row).movie_rows, limit)
        return ScoredMovies(rows, scores[rows])


class ALSRecommender(Recommender):
    """ALS alone, whatever other sources of candidates the bundle has."""

    name = "als_only"

    def __init__(self, catalogue: CatalogueContext, model: Als) -> None:
        super().__init__(catalogue)
        self._model = model

    @classmethod
    def fit(
        cls, ratings: Ratings, table: MovieTable, parameters: AlsParameters, *, seed: int = 0, engine: Engine
    ) -> Self:
        """Fits the factors."""
        model = Als.fit(ratings, len(table.movies.ids), parameters, seed=seed, engine=engine)
        return cls(CatalogueContext.of(ratings, table), model)

    @classmethod
    @override
    def read(cls, store: BundleStore, bundle_id: str) -> Self:
        return cls(CatalogueContext.read(store, bundle_id), _read_als(store, bundle_id))

    @override
    def scored(self, user_row: int, limit: int, *, explain: bool) -> ScoredMovies:
        user = np.array([user_row], dtype=np.int32)
        (found,) = self._model.candidates(user, self.catalogue.ratings, limit)
        return ScoredMovies(found.movie_rows, found.scores)


class TwoStageRecommender(Recommender):
    """What is served: the sources offer candidates, the ranker orders, and its leaf tables say why."""

    name = "two_stage"

    def __init__(
        self, catalogue: CatalogueContext, stage: FirstStage, ranker: RankerContent, *, least_history: int = 0
    ) -> None:
        super().__init__(catalogue)
        self._stage = stage
        self._ranker = ranker
        self._least_history = least_history

    @classmethod
    @override
    def read(cls, store: BundleStore, bundle_id: str) -> Self:
        catalogue = CatalogueContext.read(store, bundle_id)
        ranker = RankerContent.read(store.folder(bundle_id, "ranking"))
        als = _read_als(store, bundle_id)
        record, sources = read_sources(store.folder(bundle_id, "candidate"), als.item_factors)
        stage = FirstStage(
            ratings=catalogue.ratings,
            als=als,
            sources=sources,
            tables=ranker.tables,
            n_candidates=store.manifest(bundle_id).n_candidates,
        )
        return cls(catalogue, stage, ranker, least_history=record.least_history)

    @property
    def base_value(self) -> float:
        """Expected score: with all contributions of a movie it adds up to the movie's score."""
        return self._ranker.leaf_tables.base_value

    @override
    def scored(self, user_row: int, limit: int, *, explain: bool) -> ScoredMovies:
        (ranked,) = self._ranked(np.array([user_row], dtype=np.int32))
        order = ranked.best(limit)
        rows = ranked.found.movie_rows[order]
        reasons = (
            self._ranker.explain(
                ranked.features[order],
                history=self.catalogue.ratings.of(user_row),
                movie_rows=rows,
                n_candidates=ranked.found.movie_rows.size,
                limit=_REASONS,
            )
            if explain and rows.size
            else ()
        )
        return ScoredMovies(rows, ranked.scores[order], reasons)

    def lists(self, user_rows: Rows, limit: int) -> Iterator[FilledList]:
        """What `recommend` gives each user, to the last bit, for a fraction of the time."""
        for start in range(0, user_rows.size, _USERS_PER_CALL):
            users = user_rows[start : start + _USERS_PER_CALL]
            for user_row, ranked in zip(users.tolist(), self._ranked(users), strict=True):
                order = ranked.best(limit)
                own = ScoredMovies(ranked.found.movie_rows[order], ranked.scores[order])
                yield self._filled(user_row, own, limit)

    def _ranked(self, user_rows: Rows) -> Iterator["_Ranked"]:
        """Features and scores of each user's candidates, all in one call; none for a short history."""
        is_served = self.catalogue.ratings.counts()[user_rows] >= self._least_history
        served = user_rows[is_served]
        candidates = list(self._stage.candidates(served))
        features = self._stage.features(served.tolist(), candidates)
        # CatBoost locks the matrix that it is given.
        scores = self._ranker.predict(features.copy(order="F")) if len(features) else np.empty(0)
        ends = np.cumsum([0, *(found.movie_rows.size for found in candidates)])
        ranked = (
            _Ranked(found, features[start:end], scores[start:end])
            for found, start, end in zip(candidates, ends[:-1], ends[1:], strict=True)
        )
        for is_one in is_served:
            yield next(ranked) if is_one else _NOT_RANKED


@dataclass(frozen=True)
class _Ranked:
    """A user's candidates, and what the ranker makes of them."""

    found: Candidates
    features: npt.NDArray[np.float32]
    """Shape (n_candidates, n_features)."""
    scores: npt.NDArray[np.float64]
    """Shape (n_candidates,)."""

    def best(self, limit: int) -> npt.NDArray[np.intp]:
        """Places of the best, best first."""
        return best(self.scores, self.found.movie_rows, limit)


_NOT_RANKED: Final = _Ranked(
    Candidates(np.empty(0, np.int32), np.empty(0, np.float32)), np.empty((0, 0), np.float32), np.empty(0)
)


def _read_als(store: BundleStore, bundle_id: str) -> Als:
    folder = store.folder(bundle_id, "candidate")
    user_factors, parameters = read_user_factors(folder)
    return Als(parameters=parameters, item_factors=read_item_factors(folder), user_factors=user_factors)
