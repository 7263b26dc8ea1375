"""The candidate service on a trained bundle."""

from pathlib import Path

import pytest

from candidate_service import retrieval
from candidate_service.retrieval import Retriever
from serving.bundle.store import BundleStore
from serving.filters import MovieFilter
from serving.stages.candidate import CandidateQuery


@pytest.fixture(scope="module")
def retriever(bundle_root: Path) -> Retriever:
    store = BundleStore(bundle_root)
    return Retriever.load(store, store.pointer().bundle_id)


@pytest.mark.parametrize("n_candidates", [100, 300])
def test_the_bundle_says_how_many_candidates_a_user_gets(
    bundle_root: Path, monkeypatch: pytest.MonkeyPatch, n_candidates: int
) -> None:
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    manifest = store.manifest(bundle_id).model_copy(update={"n_candidates": n_candidates})
    monkeypatch.setattr(store, "manifest", lambda _: manifest)
    (answer,) = Retriever.load(store, bundle_id).retrieve([CandidateQuery(user_id=1)])
    assert answer.movie_ids.size == n_candidates


def test_a_scan_by_norm_answers_as_the_matrix_product_does(
    bundle_root: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    manifest = store.manifest(bundle_id)

    def load(scan_share: float) -> Retriever:
        large = manifest.model_copy(update={"scan_share": scan_share})
        monkeypatch.setattr(store, "manifest", lambda _: large)
        return Retriever.load(store, bundle_id)

    with monkeypatch.context() as patch:
        patch.setattr(retrieval, "retrieve_by_norm", None)  # too large a share: not called
        load(0.9)
    with monkeypatch.context() as patch:
        patch.setattr(retrieval, "retrieve", None)
        scanning = load(0.1)
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
