"""Budgets, on a clock that only the test moves."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.stages.deadlines import Deadline, StageBudget
from serving.errors import DeadlineError, Reason
from serving.stages.stage import FallbackReason, StageError, StageFailure, StageName
from tests.gateway.small_world import BUDGETS

STAGES = {StageName.CANDIDATE: StageBudget(0.15, 0.4), StageName.RANKING: StageBudget(0.25, 0.8)}
PRODUCTION = replace(BUDGETS, stages=STAGES)


def arriving(client_seconds: float | None, clock: Callable[[], float] = lambda: 1000.0) -> Deadline:
    return Deadline.on_arrival(client_seconds, 0.8, reserve=0.02, clock=clock)


@pytest.mark.parametrize(
    ("client_seconds", "candidate_seconds"),
    [
        (None, 0.15),  # 40 % of 780 ms are more than 150
        (5.0, 0.15),  # a patient client does not get more than ours
        (0.8, 0.15),
        (0.22, 0.08),  # 40 % of 200 ms
        (0.03, 0.004),
    ],
)
def test_a_stage_gets_its_share_of_what_is_left(
    client_seconds: float | None, candidate_seconds: float
) -> None:
    given = arriving(client_seconds).stage_seconds(StageName.CANDIDATE, PRODUCTION)
    assert given == pytest.approx(candidate_seconds)


def test_the_next_stage_gets_its_share_of_the_rest_or_is_not_asked() -> None:
    now = 1000.0
    deadline = arriving(None, lambda: now)
    assert deadline.stage_seconds(StageName.RANKING, PRODUCTION) == pytest.approx(0.25)
    now += 0.58
    assert deadline.stage_seconds(StageName.RANKING, PRODUCTION) == pytest.approx(0.8 * 0.2)
    now += 0.2
    with pytest.raises(StageError) as caught:
        deadline.stage_seconds(StageName.RANKING, PRODUCTION)
    assert caught.value.failure == StageFailure(
        StageName.RANKING, FallbackReason.DEPENDENCY_TIMEOUT, "no time was left to ask"
    )


@pytest.mark.row(29)
@pytest.mark.parametrize(("left", "remaining_ms"), [(0.0199, "19"), (0.001, "1"), (0.0, "0"), (-3.0, "0")])
def test_with_less_than_the_reserve_nothing_is_begun(left: float, remaining_ms: str) -> None:
    with pytest.raises(DeadlineError) as caught:
        arriving(left)
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT
    assert caught.value.metadata == {"remaining_ms": remaining_ms}


@pytest.mark.parametrize(
    ("request_seconds", "seconds"),
    [(8.02, 1.5), (2.02, 0.4)],  # what the stage may take at most; 40 % of the second half of 2 s
)
def test_what_a_stage_is_sure_to_get(request_seconds: float, seconds: float) -> None:
    budgets = replace(BUDGETS, request=request_seconds)
    assert budgets.full_seconds(StageName.CANDIDATE) == pytest.approx(seconds)
