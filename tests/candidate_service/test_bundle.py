"""The candidate service on a trained bundle."""

from pathlib import Path
from typing import Any

import pytest

from candidate_service import retrieval
from candidate_service.retrieval import Retriever
from serving.bundle.store import BundleStore
from serving.filters import MovieFilter
from serving.stages.candidate import CandidateQuery


def loaded(bundle_root: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Retriever:
    """The retriever of the bundle, as if its manifest had these fields."""
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    manifest = store.manifest(bundle_id).model_copy(update=fields)
    monkeypatch.setattr(store, "manifest", lambda _: manifest)
    return Retriever.load(store, bundle_id)


@pytest.mark.parametrize("n_candidates", [100, 300])
def test_the_bundle_says_how_many_candidates_a_user_gets(
    bundle_root: Path, monkeypatch: pytest.MonkeyPatch, n_candidates: int
) -> None:
    model = loaded(bundle_root, monkeypatch, n_candidates=n_candidates)
    (answer,) = model.retrieve([CandidateQuery(user_id=1)])
    assert answer.movie_ids.size == n_candidates


def test_a_scan_by_norm_answers_as_the_matrix_product_does(
    bundle_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(retrieval, "retrieve_by_norm", None)  # too large a share: not called
        retriever = loaded(bundle_root, monkeypatch, scan_share=0.9)
    with monkeypatch.context() as patch:
        patch.setattr(retrieval, "retrieve", None)
        scanning = loaded(bundle_root, monkeypatch, scan_share=0.1)
    queries = [
        CandidateQuery(
            user_id=user_id,
            limit=(1, 20, 300)[user_id % 3],
            movie_filter=(MovieFilter(), MovieFilter(genres=("War",), min_year=1990))[user_id % 2],
            include_seen=user_id % 5 == 0,
            probe_movie_ids=(1, 2),
            because_of=2,
        )
        for user_id in range(1, 40)
    ]
    batch = scanning.retrieve(queries)
    for query, scanned, expected in zip(queries, batch, retriever.retrieve(queries), strict=True):
        (alone,) = scanning.retrieve([query])
        for answer in (scanned, alone):
            assert answer.movie_ids.tolist() == expected.movie_ids.tolist()
            assert answer.scores.tobytes() == expected.scores.tobytes()
            assert answer.probes == expected.probes
            assert answer.because_of.weights.tobytes() == expected.because_of.weights.tobytes()
