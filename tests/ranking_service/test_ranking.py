"""Ranking on arrays that can be checked by eye."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typing_extensions import override

from ranking_service.ranking import Ranker
from serving.bundle.manifest import GoldenRanking
from serving.bundle.store import BundleError
from serving.errors import InvalidArgumentError
from serving.explanations import Contribution
from serving.features.sets import FeatureSet, feature_names
from serving.movies import MOVIELENS_GENRES
from serving.ratings import NO_TIME, RatedMovies
from serving.stages.ranking import RankedList, RankingQuery
from tests.ranking_service.small import ALS_SCORE, ReversingModel, ranker


def query(*movie_ids: int, user_id: int = 1, **fields: Any) -> RankingQuery:
    """Candidates in the order of retrieval, scores falling by one from their number."""
    scores = np.arange(len(movie_ids), 0, -1).astype(np.float32)
    return RankingQuery(user_id, np.array(movie_ids, dtype=np.int64), scores, **fields)


def ask(question: RankingQuery, model: Ranker | None = None) -> RankedList:
    (answer,) = (model or ranker()).rank([question]).lists
    return answer


def rated(*movie_ids: int) -> RatedMovies:
    return RatedMovies(movie_ids, (2.0,) * len(movie_ids), (NO_TIME,) * len(movie_ids))


def test_the_models_order() -> None:
    answer = ask(query(50, 10, 30))
    assert answer.movie_ids.tolist() == [30, 10, 50]
    assert answer.scores.tolist() == [-1, -2, -3]
    assert answer.explanations == ()
    assert answer.unknown_movie_ids.size == 0
    for limit, shown in ((2, [30, 10]), (1000, [30, 10, 50])):
        assert ask(query(50, 10, 30, limit=limit)).movie_ids.tolist() == shown
    same = RankingQuery(1, np.array([50, 10, 30]), np.ones(3, dtype=np.float32))
    assert ask(same).movie_ids.tolist() == [10, 30, 50]  # ties go to the lower id


def test_unknown_movies_are_named_and_do_not_count_in_ranks() -> None:
    model = ReversingModel()
    answer = ask(query(99, 10, 77, 30), ranker(model))
    assert answer.movie_ids.tolist() == [30, 10]
    assert answer.unknown_movie_ids.tolist() == [99, 77]
    features = model.seen[0]
    assert features[:, ALS_SCORE].tolist() == [3, 1]
    assert features[:, ALS_SCORE + 1].tolist() == [1, 2]  # als_rank
    assert features[:, ALS_SCORE + 2].tolist() == [1, -1]  # als_z


def test_only_unknown_movies() -> None:
    answer = ask(query(99, 77, diversity=0.5, explain_features=3))
    assert answer.movie_ids.size == 0
    assert answer.unknown_movie_ids.tolist() == [99, 77]


def test_history_joins_the_training_ratings() -> None:
    model = ReversingModel()
    ask(query(30, history=rated(10, 99)), ranker(model))
    mean, _, count = model.seen[0][0, :3].tolist()
    assert (mean, count) == (3.5, 2)  # 5 from training, 2 from the request; 99 is unknown


def test_history_alone() -> None:
    assert ask(query(10, 30, user_id=0, history=rated(20))).movie_ids.tolist() == [30, 10]


@pytest.mark.parametrize("user_id", [0, 2, 99])
def test_a_user_of_whom_nothing_is_known_is_refused(user_id: int) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ranker().rank([query(10), query(10, user_id=user_id, history=rated(99)), query(10, user_id=user_id)])
    assert [v.field for v in caught.value.violations] == ["queries[1].user_id", "queries[2].user_id"]


def test_explanations_strongest_first_ties_in_feature_order() -> None:
    answer = ask(query(30, 40, explain_features=2))
    assert answer.movie_ids.tolist() == [40, 30]
    # als_score above 0.5: -2; a year after 1991: +1, unknown: -1; a mean rating above 3: +1, and an earlier
    # column than the year
    mean = Contribution("user_avg_rating", 5.0, 1.0, "you give 5.0 stars on average")
    unknown_year, known_year = answer.explanations
    phrase = "{:.2f} by ALS, where 1 would be a sure like"
    assert unknown_year == (Contribution("als_score", 1.0, -2.0, phrase.format(1)), mean)
    assert known_year == (Contribution("als_score", 2.0, -2.0, phrase.format(2)), mean)


def test_all_explanations_add_up_and_missing_values_are_none() -> None:
    (contributions,) = ask(query(40, explain_features=100)).explanations
    assert len(contributions) == len(feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES))
    by_feature = {c.feature: c for c in contributions}
    assert by_feature["year"] == Contribution("year", None, -1.0, "of an unknown year")
    assert sum(c.contribution for c in contributions) == -2.0


def test_explanations_name_the_movie_that_the_user_rated() -> None:
    """The user rated 20, which leads to 30."""
    answer = ask(query(30, 40, explain_features=100))
    assert answer.movie_ids.tolist() == [40, 30]
    of_40, of_30 = answer.explanations
    linked, unlinked = ({c.feature: c for c in of}["trans_last1"] for of in (of_30, of_40))
    often = "often rated soon after {movie}, your last movie"
    assert linked == Contribution("trans_last1", 0.5, 0.0, often, 20)
    assert unlinked == Contribution("trans_last1", 0.0, 0.0, "seldom rated soon after your last movie")


def test_explanations_only_for_what_is_returned() -> None:
    assert len(ask(query(10, 30, 50, limit=1, explain_features=1)).explanations) == 1


def test_missing_features_are_counted() -> None:
    assert ranker().rank([query(30, 40), query(40)]).missing_features == {"year": 2, "movie_age_at_last": 2}


def test_diversity_puts_the_unlike_second() -> None:
    # 20 is best, 10 just behind and alike, 30 is unlike both.
    question = RankingQuery(1, np.array([30, 10, 20]), np.array([3, 2, 1], dtype=np.float32), diversity=0.9)
    assert ask(question).movie_ids.tolist() == [20, 30, 10]
    assert ask(question).scores.tolist() == [-1, -3, -2]


def test_diversity_works_on_explanations_of_the_right_movies() -> None:
    question = query(40, 30, diversity=0.5, explain_features=100)
    answer = ask(question)
    years = [{c.feature: c.value for c in e}["year"] for e in answer.explanations]
    assert dict(zip(answer.movie_ids.tolist(), years, strict=True)) == {40: None, 30: 1992.0}


class BrokenModel(ReversingModel):
    """Says NaN for the first row, infinity for the second."""

    @override
    def predict(self, features: npt.NDArray[np.float32], **options: Any) -> npt.NDArray[np.float64]:
        scores = super().predict(features, **options)
        scores[:2] = [np.nan, np.inf]
        return scores


@pytest.mark.row(17)
@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_scores_that_are_not_finite_never_leave(diversity: float) -> None:
    answer = ask(query(50, 40, 30, 10, diversity=diversity), ranker(BrokenModel()))
    assert sorted(answer.movie_ids.tolist()) == [10, 30]
    assert np.isfinite(answer.scores).all()


def test_batch_equals_singles_with_one_model_call() -> None:
    queries = [
        query(50, 10, 30, explain_features=3),
        query(99),
        query(10, 20, 30, user_id=2, history=rated(20, 40), limit=2),
        query(40, 30, 20, 10, diversity=0.4),
    ]
    model = ReversingModel()
    for alone, together in zip(queries, ranker(model).rank(queries).lists, strict=True):
        expected = ask(alone)
        assert expected.movie_ids.tolist() == together.movie_ids.tolist()
        assert expected.scores.tobytes() == together.scores.tobytes()
        assert expected.explanations == together.explanations
        assert expected.unknown_movie_ids.tolist() == together.unknown_movie_ids.tolist()
    assert len(model.seen) == 1


def golden(*movie_ids: int, scores: tuple[float, ...]) -> GoldenRanking:
    return GoldenRanking(user_id=1, movie_ids=movie_ids, retrieval_scores=(2.0, 1.0), scores=scores)


def test_golden_values_are_checked() -> None:
    ranker().check(golden(10, 30, scores=(-2.0, -1.0)))
    for other in (golden(10, 30, scores=(-2.0, -1.1)), golden(10, 99, scores=(-2.0, -1.0))):
        with pytest.raises(BundleError, match="golden"):
            ranker().check(other)
