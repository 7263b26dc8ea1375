"""A recommender in one process, written for speed.

`python -m benchmarks.serving.monolith_numpy BUNDLE_ROOT PORT`: FastAPI on uvicorn with uvloop, httptools and
orjson, before the very models that the product serves. Users are served one by one. What a page says of each
movie is put together once, at the start.
"""

import math
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import uvicorn
from fastapi import FastAPI, Response

from benchmarks.serving.model import Model
from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.store import BundleStore
from serving.movies import UNKNOWN_YEAR


def create_app(bundle_root: Path) -> FastAPI:
    """An application that answers from the current bundle."""
    model = Model.load(bundle_root)
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    movies = _movies_by_id(store, bundle_id)
    app = FastAPI()

    @app.get("/api/movies/personal")
    async def personal(user_id: int, limit: int = 10) -> Response:
        (top,) = model.top([user_id], limit)
        ranked = zip(top.movie_ids.tolist(), top.scores.tolist(), strict=True)
        page = {
            "movies": [
                {
                    "movie": movies[movie_id],
                    "rank": rank,
                    "score": score,
                    "source": "two_stage",
                    "explanation": (),
                    "because_of": (),
                }
                for rank, (movie_id, score) in enumerate(ranked, 1)
            ],
            "model": "two_stage",
            "degraded": False,
            "fallback_reason": "FALLBACK_REASON_UNSPECIFIED",
            "bundle_id": bundle_id,
            "recommendation_id": uuid4().hex,
        }
        return Response(orjson.dumps(page), media_type="application/json")

    return app


def _movies_by_id(store: BundleStore, bundle_id: str) -> dict[int, dict[str, Any]]:
    folder = store.folder(bundle_id, "gateway")
    movies = read_movies(folder)
    content = CatalogueContent.read(folder)
    entries = {}
    for row, movie_id in enumerate(movies.ids.ids.tolist()):
        year, mean, tmdb_id = (
            movies.years.item(row),
            content.rating_means.item(row),
            content.tmdb_ids.item(row),
        )
        entries[movie_id] = {
            "movie_id": movie_id,
            "title": content.titles[row],
            **({"year": year} if year != UNKNOWN_YEAR else {}),
            "genres": movies.genres_of(row),
            "rating_count": content.rating_counts.item(row),
            **({"rating_mean": mean} if math.isfinite(mean) else {}),
            **({"tmdb_id": tmdb_id} if tmdb_id else {}),
        }
    return entries


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(sys.argv[1])),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
