"""A recommender in one process, written for speed.

`python -m benchmarks.serving.monolith_numpy BUNDLE_ROOT PORT`: FastAPI on uvicorn with uvloop, httptools and
orjson, before the very models that the product serves. Users are served one by one. What a page says of each
movie is put together once, at the start.
"""

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import uvicorn
from fastapi import FastAPI, Response

from benchmarks.serving.model import Model
from gateway.lists.catalogue import Catalogue
from serving.bundle.store import BundleStore


def create_app(bundle_root: Path) -> FastAPI:
    """An application that answers from the current bundle."""
    model = Model.load(bundle_root)
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    movies = _movies_by_id(Catalogue.load(store, bundle_id))
    app = FastAPI()

    @app.get("/api/movies/personal")
    async def personal(user_id: int, limit: int = 10) -> Response:
        ((candidates, top),) = model.top([user_id], limit)
        places = (candidates.movie_ids == top.movie_ids[:, None]).argmax(axis=1)
        sources = candidates.sources_at(places)
        ranked = zip(top.movie_ids.tolist(), top.scores.tolist(), sources, strict=True)
        page = {
            "movies": [
                {
                    "movie": movies[movie_id],
                    "rank": rank,
                    "score": score,
                    "source": "two_stage",
                    "explanation": (),
                    "because_of": (),
                    "candidate_sources": offered_by,
                }
                for rank, (movie_id, score, offered_by) in enumerate(ranked, 1)
            ],
            "model": "two_stage",
            "degraded": False,
            "fallback_reason": "FALLBACK_REASON_UNSPECIFIED",
            "bundle_id": bundle_id,
            "recommendation_id": uuid4().hex,
        }
        return Response(orjson.dumps(page), media_type="application/json")

    return app


def _movies_by_id(catalogue: Catalogue) -> dict[int, dict[str, Any]]:
    """What a page says of each movie; what is unknown is left out."""
    movies = map(catalogue.movie, range(len(catalogue.movies.ids)))
    return {
        movie.movie_id: {name: value for name, value in vars(movie).items() if value is not None}
        for movie in movies
    }


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(sys.argv[1])),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
