"""A recommender in one process, the usual way.

`python -m benchmarks.serving.monolith_usual BUNDLE_ROOT PORT`: FastAPI with a response model, implicit's own
`recommend`, and DataFrames from the candidates to the page. Data and models are those of the bundle. So are
the numbers in the feature matrix: looked up in DataFrames, they would take longer.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import uvicorn
from fastapi import FastAPI, HTTPException
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import BaseModel
from scipy.sparse import csr_matrix

from benchmarks.serving.messages import CANDIDATES
from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.factors import read_item_factors, read_ratings, read_user_factors
from serving.bundle.ranker import RankerContent
from serving.bundle.sources import read_sources
from serving.bundle.store import BundleStore
from serving.features.group import FeatureQuery
from serving.movies import UNKNOWN_YEAR
from serving.retrieval import Candidates
from serving.sources import FusedCandidates


class Movie(BaseModel):
    """A movie of the page."""

    movie_id: int
    title: str
    year: int | None
    genres: list[str]
    rating_count: int
    rating_mean: float | None
    tmdb_id: int | None


class RecommendedMovie(BaseModel):
    """Its place on the page."""

    movie: Movie
    rank: int
    score: float


class Page(BaseModel):
    """A user's recommendations."""

    user_id: int
    movies: list[RecommendedMovie]


class Recommender:
    """ALS retrieves, CatBoost ranks."""

    def __init__(self, bundle_root: Path) -> None:
        store = BundleStore(bundle_root)
        bundle_id = store.pointer().bundle_id
        candidate = store.folder(bundle_id, "candidate")
        self.ratings = read_ratings(candidate)
        item_factors = read_item_factors(candidate)
        _, self.sources = read_sources(candidate, item_factors)
        self.cold = ~item_factors.any(axis=1)
        self.warm = np.flatnonzero(~self.cold).astype(np.int32)  # implicit knows these alone
        self.als = AlternatingLeastSquares(factors=item_factors.shape[1], num_threads=1)
        self.als.item_factors = item_factors[self.warm]
        self.als.user_factors, _ = read_user_factors(candidate)
        ratings = self.ratings
        self.user_items = csr_matrix(
            (ratings.values, ratings.movie_rows, ratings.indptr),  # noqa: PD011  # no DataFrame
            shape=(len(ratings.users), item_factors.shape[0]),
        )[:, self.warm]

        self.ranker = RankerContent.read(store.folder(bundle_id, "ranking"))

        gateway = store.folder(bundle_id, "gateway")
        movies, content = read_movies(gateway), CatalogueContent.read(gateway)
        self.movies = pd.DataFrame(
            {
                "movie_id": movies.ids.ids,
                "title": content.titles,
                "year": _with_none(movies.years, unknown=UNKNOWN_YEAR),
                "genres": [list(movies.genres_of(row)) for row in range(len(movies.ids))],
                "rating_count": content.rating_counts,
                "rating_mean": _with_none(content.rating_means, unknown=np.nan),
                "tmdb_id": _with_none(content.tmdb_ids, unknown=0),
            }
        )

    def recommend(self, user_id: int, limit: int) -> list[RecommendedMovie]:
        """The best movies for a user.

        Raises:
            LookupError: the user is unknown.
        """
        user = self.ratings.users.row(user_id)
        if user < 0:
            raise LookupError(f"user {user_id} is unknown")
        items, als_scores = self.als.recommend(user, self.user_items[user], N=CANDIDATES)
        retrieved = pd.DataFrame({"movie_row": self.warm[items], "als_score": als_scores})
        retrieved = retrieved.sort_values(["als_score", "movie_row"], ascending=[False, True])
        found = self.sources.fuse(
            Candidates(retrieved["movie_row"].to_numpy(), retrieved["als_score"].to_numpy()),
            self.als.user_factors[user],
            self.ratings.of(user),
            self.cold | np.isin(np.arange(self.cold.size), self.ratings.of(user).movie_rows),
            depth=CANDIDATES,
            limit=CANDIDATES,
        )
        candidates = pd.DataFrame({"movie_row": found.movie_rows})
        candidates["score"] = self.ranker.model.predict(self.features(user, found))
        best = candidates.sort_values(["score", "movie_row"], ascending=[False, True]).head(limit)
        best = best.merge(self.movies, left_on="movie_row", right_index=True)
        return [
            RecommendedMovie(movie=Movie.model_validate(row), rank=rank, score=row["score"])
            for rank, row in enumerate(best.to_dict("records"), 1)
        ]

    def features(self, user: int, found: FusedCandidates) -> pd.DataFrame:
        """One row per candidate."""
        tables = self.ranker.tables
        query = FeatureQuery(
            history=self.ratings.of(user),
            movie_rows=found.movie_rows,
            retrieval_scores=found.scores,
            source_ranks=found.source_ranks,
        )
        values = tables.compute([query])
        return pd.DataFrame(values, columns=tables.names)


def _with_none(values: npt.NDArray[Any], *, unknown: float) -> pd.Series:
    """The values as Python objects, None where they are unknown."""
    is_known = ~np.isnan(values) if np.isnan(unknown) else values != unknown
    return pd.Series(values.tolist(), dtype=object).where(is_known, None)


def create_app(bundle_root: Path) -> FastAPI:
    """An application that answers from the current bundle."""
    recommender = Recommender(bundle_root)
    app = FastAPI()

    @app.get("/api/movies/personal")
    def personal(user_id: int, limit: int = 10) -> Page:
        try:
            return Page(user_id=user_id, movies=recommender.recommend(user_id, limit))
        except LookupError as error:
            raise HTTPException(status_code=404, detail=str(error)) from error

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(Path(sys.argv[1])), port=int(sys.argv[2]), access_log=False, log_level="warning")
