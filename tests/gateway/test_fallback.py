"""The ladder, as a table."""

import pytest

from gateway.fallback import LADDER, Denial, Model, Outcome, Rung, fallback_reason
from serving.stages.stage import FAULTS, FallbackReason


def test_the_ladder() -> None:
    als, popular, genres = Model.ALS_ONLY, Model.POPULARITY_FALLBACK, Model.GENRE_JACCARD
    assert dict(LADDER) == {
        Outcome.RANKED: Rung(Model.TWO_STAGE, (als, popular), Denial.SHORT_LIST),
        Outcome.RANKING_FAILED: Rung(als, (popular,), Denial.UNAVAILABLE),
        Outcome.NOTHING_TO_RANK: Rung(Model.TWO_STAGE, (popular,), Denial.SHORT_LIST),
        Outcome.UNKNOWN_USER: Rung(popular, (), Denial.NOT_FOUND, FallbackReason.UNKNOWN_USER),
        Outcome.SHORT_HISTORY: Rung(popular, (), Denial.SHORT_LIST, FallbackReason.SHORT_HISTORY),
        Outcome.CANDIDATES_FAILED: Rung(popular, (), Denial.UNAVAILABLE),
        Outcome.NEIGHBOURS: Rung(Model.ALS_COSINE, (genres,), Denial.SHORT_LIST),
        Outcome.COLD_MOVIE: Rung(genres, (), Denial.SHORT_LIST, FallbackReason.COLD_MOVIE),
        Outcome.INDEX_FAILED: Rung(genres, (), Denial.UNAVAILABLE),
    }
    assert set(LADDER) == set(Outcome)


@pytest.mark.parametrize(
    ("outcome", "fault", "short", "filtered", "reason"),
    [
        # A fault wins over everything.
        (Outcome.RANKING_FAILED, "DEPENDENCY_TIMEOUT", True, True, "DEPENDENCY_TIMEOUT"),
        (Outcome.CANDIDATES_FAILED, "MODEL_UNAVAILABLE", False, False, "MODEL_UNAVAILABLE"),
        (Outcome.INDEX_FAILED, "BUNDLE_MISMATCH", False, True, "BUNDLE_MISMATCH"),
        # A filter explains a short list, whoever asks.
        (Outcome.RANKED, None, True, True, "FILTERED_OUT"),
        (Outcome.NOTHING_TO_RANK, None, True, True, "FILTERED_OUT"),
        (Outcome.UNKNOWN_USER, None, True, True, "FILTERED_OUT"),
        (Outcome.COLD_MOVIE, None, True, True, "FILTERED_OUT"),
        (Outcome.NEIGHBOURS, None, True, True, "FILTERED_OUT"),
        # Then what is special about the user or the movie.
        (Outcome.UNKNOWN_USER, None, False, True, "UNKNOWN_USER"),
        (Outcome.UNKNOWN_USER, None, True, False, "UNKNOWN_USER"),
        (Outcome.COLD_MOVIE, None, False, True, "COLD_MOVIE"),
        (Outcome.COLD_MOVIE, None, True, False, "COLD_MOVIE"),
        # Then that there is no more.
        (Outcome.RANKED, None, True, False, "NO_CANDIDATES"),
        (Outcome.NOTHING_TO_RANK, None, True, False, "NO_CANDIDATES"),
        (Outcome.NEIGHBOURS, None, True, False, "NO_CANDIDATES"),
        # A full list is what was asked for.
        (Outcome.RANKED, None, False, False, None),
        (Outcome.RANKED, None, False, True, None),
        (Outcome.NEIGHBOURS, None, False, True, None),
    ],
)
def test_which_reason_wins(
    *, outcome: Outcome, fault: str | None, short: bool, filtered: bool, reason: str | None
) -> None:
    known = None if fault is None else FallbackReason(fault)
    assert fallback_reason(outcome, fault=known, short=short, filtered=filtered) == reason


@pytest.mark.parametrize("reason", FallbackReason)
def test_faults_are_what_is_neither_the_users_nor_the_requests_doing(reason: FallbackReason) -> None:
    normal = {"UNKNOWN_USER", "SHORT_HISTORY", "COLD_MOVIE", "NO_CANDIDATES", "FILTERED_OUT"}
    assert (reason in FAULTS) is (reason not in normal)
