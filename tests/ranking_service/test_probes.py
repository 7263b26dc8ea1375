"""Probes beside a list: scored as the list is, and the list is what it is without them."""

from typing import Any

import numpy as np
import pytest

from serving.explanations import Contribution
from serving.features.sets import FeatureSet, feature_names
from serving.movies import MOVIELENS_GENRES
from serving.ratings import NO_TIME, RatedMovies
from serving.stages.ranking import RankingProbe, RankingQuery
from tests.ranking_service.small import ALS_SCORE, ReversingModel, ranker
from tests.ranking_service.test_ranking import BrokenModel, ask


def probes(*standing: tuple[int, float, int]) -> tuple[RankingProbe, ...]:
    """Movie, retrieval score and retrieval rank of each."""
    return tuple(RankingProbe(*one) for one in standing)


def query(**fields: Any) -> RankingQuery:
    """Retrieval gives 50, 10 and 30 the scores 3, 2, 1; the model turns them around."""
    return RankingQuery(1, np.array([50, 10, 30]), np.array([3, 2, 1], dtype=np.float32), **fields)


def test_a_movie_of_the_list_has_its_place_in_it() -> None:
    answer = ask(query(limit=1, probes=probes((10, 77.0, 77), (30, 77.0, 77))))
    assert answer.movie_ids.tolist() == [30]
    assert [(p.movie_id, p.score, p.rank) for p in answer.probes] == [(10, -2.0, 2), (30, -1.0, 1)]


def test_another_movie_has_the_place_that_it_would_have() -> None:
    answer = ask(query(probes=probes((20, 0.5, 4), (40, 2.5, 9))))
    assert [(p.movie_id, p.score, p.rank) for p in answer.probes] == [(20, -0.5, 1), (40, -2.5, 3)]
    assert answer.movie_ids.tolist() == [30, 10, 50]
    tied = ask(query(probes=probes((20, 2.0, 4), (40, 1.0, 4))))
    assert [p.rank for p in tied.probes] == [3, 2]  # after 10 and before 50; after 30


def test_features_are_held_against_the_list() -> None:
    model = ReversingModel()
    ask(query(probes=probes((20, 0.5, 301))), ranker(model))
    (features,) = model.seen
    assert features[:, ALS_SCORE].tolist() == [3, 2, 1, 0.5]
    assert features[:, ALS_SCORE + 1].tolist() == [1, 2, 3, 301]
    deviation = np.std([3, 2, 1])
    np.testing.assert_allclose(features[:, ALS_SCORE + 2], np.array([1, 0, -1, -1.5]) / deviation, rtol=1e-6)


def test_all_contributions_of_the_probe_and_of_the_last_movie() -> None:
    answer = ask(query(limit=2, probes=probes((40, 0.25, 4))))
    names = feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES)
    (probe,) = answer.probes
    assert len(probe.explanation) == len(answer.last_explanation) == len(names)
    # als_score up to 0.5: +0.5; a year that is not known: -1; a mean above 3: +1
    assert probe.explanation[:3] == (
        Contribution("user_avg_rating", 5.0, 1.0, "you give 5.0 stars on average"),
        Contribution("year", None, -1.0, "of an unknown year"),
        Contribution("als_score", 0.25, 0.5, "0.25 by ALS, where 1 would be a sure like"),
    )
    place = {c.feature: c.phrase for c in probe.explanation}["als_rank"]
    assert place == "4th by ALS, behind the 3 candidates"
    assert answer.movie_ids.tolist() == [30, 10]
    by_feature = {c.feature: c for c in answer.last_explanation}
    assert by_feature["year"] == Contribution("year", 1990.0, -1.0, "released in 1990")
    phrase = "2.00 by ALS, where 1 would be a sure like"
    assert by_feature["als_score"] == Contribution("als_score", 2.0, -2.0, phrase)


def test_what_cannot_be_scored_is_left_out() -> None:
    answer = ask(query(probes=probes((99, 1.0, 4), (20, 0.5, 5))))
    assert [p.movie_id for p in answer.probes] == [20]
    broken = ask(query(probes=probes((50, 1.0, 4), (30, 0.5, 5))), ranker(BrokenModel()))
    assert [(p.movie_id, p.rank) for p in broken.probes] == [(30, 1)]  # NaN for 50, infinity for 10


def test_a_list_that_the_bundle_does_not_know() -> None:
    unknown = RankingQuery(
        1, np.array([99]), np.array([1], dtype=np.float32), probes=probes((10, 2.0, 1), (99, 1.0, 1))
    )
    answer = ask(unknown)
    assert answer.movie_ids.size == 0
    assert [(p.movie_id, p.rank) for p in answer.probes] == [(10, 1)]
    assert answer.last_explanation == ()


@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_a_probe_never_alters_a_list(diversity: float) -> None:
    history = RatedMovies((20,), (4.0,), (NO_TIME,))
    plain = query(diversity=diversity, explain_features=3, history=history)
    probed = query(
        diversity=diversity, explain_features=3, history=history, probes=probes((20, 9.0, 1), (50, 1.0, 1))
    )
    model = ReversingModel()
    for answer in ranker(model).rank([probed, plain, probed]).lists:
        expected = ask(plain)
        assert answer.movie_ids.tolist() == expected.movie_ids.tolist()
        assert answer.scores.tobytes() == expected.scores.tobytes()
        assert answer.explanations == expected.explanations
    assert len(model.seen) == 1
    assert ask(plain).probes == ()
    assert ask(plain).last_explanation == ()
