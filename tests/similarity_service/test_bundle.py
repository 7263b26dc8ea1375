"""The similarity service on a trained bundle."""

from pathlib import Path

import numpy as np

from serving.bundle.catalogue import read_movies
from serving.bundle.neighbours import NeighboursContent
from serving.bundle.store import BundleStore
from serving.stages.similarity import SimilarQuery
from similarity_service.neighbours import SimilarityIndex


def test_computed_neighbours_are_those_of_training(bundle_root: Path) -> None:
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    folder = store.folder(bundle_id, "similarity")
    index = SimilarityIndex.load(store, bundle_id)
    stored = NeighboursContent.read(folder)
    for row, movie_id in enumerate(read_movies(folder).ids.ids.tolist()):
        n_stored = int(np.count_nonzero(stored.movie_rows[row] >= 0))
        longer = index.similar(SimilarQuery(movie_id, limit=n_stored + 1))
        np.testing.assert_allclose(longer.scores[:n_stored], stored.scores[row, :n_stored], atol=1e-6)
        assert len(set(longer.movie_ids.tolist())) == longer.movie_ids.size
        assert movie_id not in longer.movie_ids
