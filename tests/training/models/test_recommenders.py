"""What Python gets is what servers answer: compared with their own domain code, on one bundle."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from candidate_service.retrieval import Retriever
from ranking_service.ranking import Ranker
from serving.bundle.store import BundleError, BundleStore
from serving.sources import Source
from serving.stages.candidate import CandidateQuery
from serving.stages.ranking import RankingQuery
from tests.conftest import Trained
from training.engine.local import LocalEngine
from training.models.recommenders import (
    POPULARITY,
    ALSRecommender,
    PopularityRecommender,
    Recommender,
    SVDRecommender,
    TwoStageRecommender,
)

EVERY = (PopularityRecommender, SVDRecommender, ALSRecommender, TwoStageRecommender)


@pytest.fixture(scope="module")
def user_ids(trained: Trained) -> list[int]:
    ratings = trained.two_stage.stage.ratings
    with_vector = np.any(trained.two_stage.stage.als.user_factors, axis=1)
    return [int(user_id) for user_id in ratings.users.ids[with_vector][:5]]


def test_two_stage_answers_as_the_servers_do(trained: Trained, user_ids: list[int]) -> None:
    store = BundleStore(trained.root)
    retriever = Retriever.load(store, trained.bundle_id)
    ranker = Ranker.load(store, trained.bundle_id)
    ours = TwoStageRecommender.load(trained.root)

    def title(movie_id: int) -> str:
        return trained.table.titles[trained.table.movies.ids.row(movie_id)]

    assert ours.base_value == ranker.base_value
    for user_id in user_ids:
        (candidates,) = retriever.retrieve([CandidateQuery(user_id=user_id, limit=300)])
        query = RankingQuery(
            user_id=user_id,
            movie_ids=candidates.movie_ids,
            retrieval_scores=candidates.scores,
            source_ranks=candidates.source_ranks,
            limit=10,
            explain_features=5,
        )
        (ranked,) = ranker.rank([query]).lists
        items = ours.recommend(user_id, 10, explain=True)
        assert [item.movie_id for item in items] == ranked.movie_ids.tolist()
        assert [item.score for item in items] == ranked.scores.tolist()
        explanations = [tuple(reason.titled(title) for reason in reasons) for reasons in ranked.explanations]
        assert [item.reasons for item in items] == explanations
        assert {item.model for item in items} == {"two_stage"}


def test_als_answers_as_the_candidate_service_does(trained: Trained, user_ids: list[int]) -> None:
    retriever = Retriever.load(BundleStore(trained.root), trained.bundle_id)
    ours = ALSRecommender.load(trained.root)
    for user_id in user_ids:
        (candidates,) = retriever.retrieve([CandidateQuery(user_id=user_id)])
        ranks = candidates.source_ranks[Source.ALS]
        first_ten = [int(np.flatnonzero(ranks == rank)[0]) for rank in range(1, 11)]
        items = ours.recommend(user_id)
        assert [item.movie_id for item in items] == candidates.movie_ids[first_ten].tolist()
        assert [item.score for item in items] == candidates.scores[first_ten].tolist()


def test_a_fitted_model_answers_as_the_loaded_one(trained: Trained, user_ids: list[int]) -> None:
    stage, table = trained.two_stage.stage, trained.table
    fitted: list[Recommender] = [
        PopularityRecommender.fit(stage.ratings, table),
        SVDRecommender.fit(stage.ratings, table),
        ALSRecommender.fit(stage.ratings, table, stage.als.parameters, engine=LocalEngine(1)),
    ]
    for model in fitted:
        loaded = type(model).load(trained.root)
        assert model.recommend(user_ids[0]) == loaded.recommend(user_ids[0])


@pytest.mark.parametrize("model", EVERY)
def test_an_unknown_user_gets_what_is_popular(trained: Trained, model: type[Recommender]) -> None:
    popular = PopularityRecommender.load(trained.root).recommend(999_999, 7)
    items = model.load(trained.root).recommend(999_999, 7, explain=True)
    assert items == popular
    assert {item.model for item in items} == {POPULARITY}
    assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)


@pytest.mark.parametrize("model", EVERY)
def test_nothing_seen_nothing_twice_and_the_whole_catalogue_at_the_most(
    trained: Trained, model: type[Recommender], user_ids: list[int]
) -> None:
    ratings, movies = trained.two_stage.stage.ratings, trained.table.movies
    seen = set(movies.ids.ids[ratings.of(ratings.users.row(user_ids[1])).movie_rows].tolist())
    items = model.load(trained.root).recommend(user_ids[1], 10_000)
    assert len(items) == len({item.movie_id for item in items}) == len(movies.ids) - len(seen)
    assert not seen & {item.movie_id for item in items}
    assert all(item.title and np.isfinite(item.score) for item in items)


def test_a_bundle_outside_of_a_root_is_told(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.root / "bundles" / trained.bundle_id, tmp_path / "bundle")
    with pytest.raises(BundleError, match="where it lies below a root, in `bundles`"):
        ALSRecommender.load(tmp_path / "bundle")


def test_one_bundle_can_be_named(trained: Trained, user_ids: list[int]) -> None:
    bundle = trained.root / "bundles" / trained.bundle_id
    named = TwoStageRecommender.load(bundle).recommend(user_ids[0])
    assert named == TwoStageRecommender.load(trained.root).recommend(user_ids[0])


def test_no_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle is published"):
        TwoStageRecommender.load(tmp_path)
