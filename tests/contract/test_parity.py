"""Training against serving, row by row: what the ranker learned from is what it is asked for."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from candidate_service.retrieval import Retriever
from ranking_service.ranking import Ranker
from serving.bundle.factors import read_ratings
from serving.bundle.manifest import Golden
from serving.bundle.ranker import RankerContent
from serving.bundle.store import BundleStore
from serving.ids import Rows
from serving.ratings import RatedMovies
from serving.sources import FusedCandidates, Source
from serving.stages.candidate import CandidateList, CandidateQuery, UserVector
from serving.stages.ranking import RankingQuery
from similarity_service.neighbours import SimilarityIndex
from tests.conftest import Trained

Floats = npt.NDArray[np.float32]

_USERS_PER_CALL = 32
USERS_ARE = ("trained", "unknown, with their ratings as history")


class Recorder:
    """The bundle's model, which remembers what it was asked."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.seen: list[Floats] = []

    def predict(self, features: Floats, **options: Any) -> npt.NDArray[np.float64]:
        """CatBoost's method."""
        self.seen.append(features.copy())
        scores: npt.NDArray[np.float64] = self.model.predict(features, **options)
        return scores


@pytest.fixture(scope="module")
def store(trained: Trained) -> BundleStore:
    return BundleStore(trained.root)


@pytest.fixture(scope="module")
def retriever(trained: Trained, store: BundleStore) -> Retriever:
    return Retriever.load(store, trained.bundle_id)


@pytest.fixture(scope="module")
def everyone(trained: Trained) -> Rows:
    return np.arange(len(trained.two_stage.stage.ratings.users), dtype=np.int32)


@pytest.fixture(scope="module")
def learned(trained: Trained, everyone: Rows) -> list[FusedCandidates]:
    """Every user's candidates, as training finds them."""
    return list(trained.two_stage.stage.candidates(everyone))


@pytest.fixture(scope="module")
def golden(trained: Trained, store: BundleStore) -> Golden:
    return store.manifest(trained.bundle_id).golden


def calls(everyone: Rows) -> Iterator[Rows]:
    """Users as they travel together."""
    for start in range(0, everyone.size, _USERS_PER_CALL):
        yield everyone[start : start + _USERS_PER_CALL]


def own_ratings(trained: Trained, user_row: int) -> RatedMovies:
    """A user's training ratings as a request would bring them, oldest first."""
    history = trained.two_stage.stage.ratings.of(user_row)
    ids = trained.table.movies.ids.ids[history.movie_rows]
    return RatedMovies(tuple(ids.tolist()), tuple(history.values.tolist()), tuple(history.times.tolist()))


def assert_same(trained: Trained, answer: CandidateList, candidates: FusedCandidates) -> None:
    assert answer.movie_ids.tolist() == trained.table.movies.ids.ids[candidates.movie_rows].tolist()
    assert answer.scores.tobytes() == candidates.scores.tobytes()
    assert answer.fused_scores.tobytes() == candidates.fused_scores.tobytes()
    if answer.movie_ids.size:
        assert list(answer.source_ranks) == list(Source)
        for source, ranks in answer.source_ranks.items():
            assert ranks.tobytes() == candidates.source_ranks[source].tobytes()


@pytest.mark.parametrize("known", [True, False], ids=USERS_ARE)
def test_candidates_are_the_same_for_every_user(
    trained: Trained, retriever: Retriever, everyone: Rows, learned: list[FusedCandidates], *, known: bool
) -> None:
    user_ids = trained.two_stage.stage.ratings.users.ids
    vector = UserVector.TRAINED if known else UserVector.FOLDED_IN
    for users in calls(everyone):
        queries = [
            CandidateQuery(int(user_ids[user]))
            if known
            else CandidateQuery(0, history=own_ratings(trained, int(user)))
            for user in users
        ]
        for user, answer in zip(users, retriever.retrieve(queries), strict=True):
            assert_same(trained, answer, learned[user])
            assert (answer.user_vector is vector) == (answer.movie_ids.size > 0)
    assert sum(one.movie_rows.size for one in learned) > 100_000


@pytest.mark.parametrize("known", [True, False], ids=USERS_ARE)
def test_features_scores_and_order_are_the_same_for_every_user(
    trained: Trained, store: BundleStore, everyone: Rows, learned: list[FusedCandidates], *, known: bool
) -> None:
    stage, ids = trained.two_stage.stage, trained.table.movies.ids.ids
    folder = store.folder(trained.bundle_id, "ranking")
    content = RankerContent.read(folder)
    recorder = Recorder(content.model)
    ranker = Ranker(
        bundle_id=trained.bundle_id, ratings=read_ratings(folder), content=replace(content, model=recorder)
    )
    ours = trained.two_stage.recommend(everyone)
    with_candidates = everyone[[found.movie_rows.size > 0 for found in learned]]
    assert with_candidates.size > 0.9 * everyone.size
    for users in calls(with_candidates):
        queries = [
            RankingQuery(
                user_id=int(stage.ratings.users.ids[user]) if known else 0,
                movie_ids=ids[learned[user].movie_rows],
                retrieval_scores=learned[user].scores,
                source_ranks=learned[user].source_ranks,
                history=RatedMovies() if known else own_ratings(trained, int(user)),
            )
            for user in users
        ]
        lists = ranker.rank(queries).lists
        features = [stage.features([int(user)], [learned[user]]) for user in users]
        asked = recorder.seen.pop()
        assert asked.tobytes() == np.concatenate(features).tobytes()
        for user, own, ranked in zip(users, features, lists, strict=True):
            assert ranked.movie_ids.tolist() == ids[ours[user]].tolist()
            scores = trained.two_stage.ranker.predict(own, prediction_type="RawFormulaVal", thread_count=1)
            assert ranked.scores.tolist() == sorted(scores.tolist(), reverse=True)
            assert ranked.unknown_movie_ids.size == 0


def test_golden_values_come_out_of_the_processes(
    trained: Trained, store: BundleStore, retriever: Retriever, golden: Golden
) -> None:
    """Not within the tolerance of a server's start, but exactly: this is the machine that trained."""
    wanted = golden.candidate
    (answer,) = retriever.retrieve([CandidateQuery(wanted.user_id, len(wanted.movie_ids))])
    assert tuple(answer.movie_ids.tolist()) == wanted.movie_ids
    assert tuple(answer.scores.tolist()) == wanted.scores

    ranking = golden.ranking
    query = RankingQuery(
        ranking.user_id,
        np.array(ranking.movie_ids),
        np.array(ranking.retrieval_scores, dtype=np.float32),
        source_ranks={
            Source(name): np.array(ranks, np.int32) for name, ranks in ranking.source_ranks.items()
        },
    )
    (ranked,) = Ranker.load(store, trained.bundle_id).rank([query]).lists
    score_of = dict(zip(ranked.movie_ids.tolist(), ranked.scores.tolist(), strict=True))
    assert tuple(score_of[movie_id] for movie_id in ranking.movie_ids) == ranking.scores

    SimilarityIndex.load(store, trained.bundle_id).check(golden.similarity)
