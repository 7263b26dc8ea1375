"""Bundles whose users are in pieces: together they say what one piece does, and each serves its own users."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grpc import StatusCode

from candidate_service.retrieval import Retriever
from movierec.candidate.v1 import candidate_service_pb2 as candidate_pb
from movierec.candidate.v1 import candidate_service_pb2_grpc as candidate_pb_grpc
from movierec.ranking.v1 import ranking_service_pb2 as ranking_pb
from movierec.ranking.v1 import ranking_service_pb2_grpc as ranking_pb_grpc
from ranking_service.ranking import Ranker
from serving.bundle.factors import read_ratings, read_seen_movies, read_user_factors
from serving.bundle.store import BundleError, BundleStore
from serving.bundle.trial import try_loading
from serving.errors import Reason
from serving.shards import UserShard, shard_of
from serving.stages.candidate import CandidateQuery
from serving.stages.ranking import RankingQuery
from tests.serving.personal_stages import candidate_stage, ranking_stage
from tests.serving.stage_under_test import failure, reason_of
from tests.training.publish.test_publish import build
from tests.training.release.candidate import promote_candidate
from tests.training.release.test_champion import pulled, register
from tests.training.small import N_USERS, PROGRESS
from training.jobs.train import SERVER_LOADERS
from training.publish.publish import Build, UserShardsError, publish

SHARDS = (UserShard(0, 2), UserShard(1, 2))
USERS = range(1, N_USERS + 1)


@pytest.fixture(scope="module")
def built() -> Build:
    return build()


@pytest.fixture(scope="module")
def whole(built: Build, tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    root = tmp_path_factory.mktemp("whole")
    publish(root, built, PROGRESS)
    return BundleStore(root)


@pytest.fixture(scope="module")
def halves(built: Build, tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    root = tmp_path_factory.mktemp("halves")
    publish(root, replace(built, user_shards=2), PROGRESS)
    return BundleStore(root)


def half(halves: BundleStore, shard: UserShard) -> BundleStore:
    return BundleStore(halves.root, user_shard=shard)


def current(store: BundleStore) -> str:
    return store.pointer().bundle_id


def test_one_piece_is_named_as_ever_and_the_manifest_says_nothing_of_shards(whole: BundleStore) -> None:
    text = (whole.path(current(whole)) / "manifest.json").read_text()
    assert "shards" not in text
    assert "-of-" not in text


def test_pieces_together_are_what_one_piece_is(whole: BundleStore, halves: BundleStore) -> None:
    one, two = whole.folder(current(whole), "candidate"), halves.folder(current(halves), "candidate")
    assert {name for name in two.manifest.files if name.startswith("candidate/") and "-of-" in name} == {
        f"candidate/{name}-{index}-of-2.npz" for name in ("ratings", "user_factors") for index in (0, 1)
    }
    for name in ("indptr", "movie_rows", "values", "times"):
        np.testing.assert_array_equal(getattr(read_ratings(one), name), getattr(read_ratings(two), name))
    np.testing.assert_array_equal(read_ratings(one).users.ids, read_ratings(two).users.ids)
    np.testing.assert_array_equal(read_user_factors(one)[0], read_user_factors(two)[0])
    for user_id in USERS:
        np.testing.assert_array_equal(read_seen_movies(one).of(user_id), read_seen_movies(two).of(user_id))


def test_every_user_is_answered_by_their_shard_as_by_one_that_holds_all(
    whole: BundleStore, halves: BundleStore
) -> None:
    """Nobody's order or scores differ by a bit, and golden values come out again everywhere."""
    retriever, ranker = Retriever.load(whole, current(whole)), Ranker.load(whole, current(whole))
    shards = [
        (Retriever.load(store, current(store)), Ranker.load(store, current(store)))
        for store in (half(halves, shard) for shard in SHARDS)
    ]
    for user_id in USERS:
        own_retriever, own_ranker = shards[shard_of(user_id, 2)]
        (found,) = retriever.retrieve([CandidateQuery(user_id=user_id)])
        (own,) = own_retriever.retrieve([CandidateQuery(user_id=user_id)])
        assert own.movie_ids.tolist() == found.movie_ids.tolist()
        assert own.scores.tobytes() == found.scores.tobytes()
        query = RankingQuery(user_id=user_id, movie_ids=found.movie_ids, retrieval_scores=found.scores)
        (ranked,), (own_ranked,) = ranker.rank([query]).lists, own_ranker.rank([query]).lists
        assert own_ranked.movie_ids.tolist() == ranked.movie_ids.tolist()
        assert own_ranked.scores.tobytes() == ranked.scores.tobytes()


def test_a_shard_reads_no_piece_of_another(halves: BundleStore, tmp_path: Path) -> None:
    store = BundleStore(Path(shutil.copytree(halves.root, tmp_path / "bundles")), user_shard=SHARDS[0])
    for path in store.path(current(store)).rglob("*-1-of-2.npz"):
        path.unlink()
    store.verify(current(store))
    try_loading(SERVER_LOADERS[:2], store, current(store))  # in a process of its own, which must be told
    with pytest.raises(BundleError, match=r"cannot read candidate/user_factors-1-of-2\.npz"):
        Retriever.load(BundleStore(store.root), current(store))


def test_a_bundle_in_other_shards_is_refused(whole: BundleStore, halves: BundleStore) -> None:
    for store, shard, held in ((whole, UserShard(0, 2), 1), (halves, UserShard(0, 3), 2)):
        wrong = BundleStore(store.root, user_shard=shard)
        with pytest.raises(BundleError, match=f"its user_shards is {held}, .* serve shard {shard}$"):
            Retriever.load(wrong, current(wrong))


def test_more_shards_than_there_are_users_to_recommend_to_are_refused(built: Build, tmp_path: Path) -> None:
    with pytest.raises(UserShardsError, match=r"^--user-shards 100: shard \d+ has nobody"):
        publish(tmp_path, replace(built, user_shards=100), PROGRESS)
    assert list((tmp_path / "bundles").iterdir()) == []


async def test_a_user_of_another_shard_is_refused_also_among_others(
    halves: BundleStore, tmp_path: Path
) -> None:
    store = half(halves, SHARDS[0])
    own, other = (next(user for user in USERS if shard_of(user, 2) == index) for index in (0, 1))
    retriever, ranker = Retriever.load(store, current(store)), Ranker.load(store, current(store))

    async with candidate_stage(tmp_path, retriever) as (channel, _):
        candidates = candidate_pb_grpc.CandidateServiceStub(channel)
        queries = [candidate_pb.CandidateQuery(user_id=user) for user in (own, other)]
        answer = await candidates.GenerateCandidates(
            candidate_pb.GenerateCandidatesRequest(queries=queries[:1]), timeout=5
        )
        assert len(answer.lists[0].movie_ids) > 0
        error = await failure(
            candidates.GenerateCandidates(candidate_pb.GenerateCandidatesRequest(queries=queries), timeout=5)
        )
    assert (error.code(), reason_of(error)) == (StatusCode.FAILED_PRECONDITION, Reason.WRONG_USER_SHARD)
    assert error.details() == "A user of the call belongs to shard 1/2, and this server serves shard 0/2."
    async with ranking_stage(tmp_path, ranker) as (channel, _):
        query = ranking_pb.RankingQuery(user_id=other, movie_ids=[10], retrieval_scores=[1.0])
        error = await failure(
            ranking_pb_grpc.RankingServiceStub(channel).RankMovies(
                ranking_pb.RankMoviesRequest(queries=[query]), timeout=5
            )
        )
    assert (error.code(), reason_of(error)) == (StatusCode.FAILED_PRECONDITION, Reason.WRONG_USER_SHARD)


def test_sync_fetches_one_piece_alone(halves: BundleStore, tmp_path: Path) -> None:
    registry = register(tmp_path / "registry", halves.path(current(halves)))
    promote_candidate(registry)
    root = tmp_path / "servers"
    assert pulled(registry, root, user_shard=SHARDS[1]) == current(halves)
    pieces = {path.name for path in root.rglob("*-of-2.npz")}
    assert pieces == {"ratings-1-of-2.npz", "user_factors-1-of-2.npz"}
    store = BundleStore(root, user_shard=SHARDS[1])
    assert store.is_whole(current(halves))
    assert not BundleStore(root).is_whole(current(halves))
    Ranker.load(store, current(halves))
