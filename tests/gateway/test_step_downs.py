"""What the log says while lists step down: each fault at once, then once a minute with a count."""

from structlog.testing import capture_logs

from gateway.fallback import Model
from gateway.lists.step_down_log import PAUSE_SECONDS, StepDownLog
from serving.stages.stage import FallbackReason, StageFailure, StageName
from tests.gateway.small_world import World, failing
from tests.gateway.test_personal import ask

AWAY = StageFailure(StageName.RANKING, FallbackReason.DEPENDENCY_UNAVAILABLE, "UNAVAILABLE: no route")
SLOW = StageFailure(StageName.RANKING, FallbackReason.DEPENDENCY_TIMEOUT)
OTHER = StageFailure(StageName.CANDIDATE, FallbackReason.DEPENDENCY_UNAVAILABLE)


async def test_a_stage_that_is_away_is_one_line_and_every_list_is_counted(world: World) -> None:
    world.candidates.answer = failing(StageName.CANDIDATE)
    with capture_logs() as lines:
        for _ in range(20):
            await ask(world)
    assert [line["event"] for line in lines] == ["stepped down"]
    assert world.counted("degraded", method="ListPersonalMovies") == 20
    assert world.counted("fallbacks", service="candidate", reason="DEPENDENCY_UNAVAILABLE") == 20


def test_each_fault_is_told_at_once_then_once_a_minute_with_a_count() -> None:
    now = 1_000.0
    log = StepDownLog(clock=lambda: now)
    with capture_logs() as lines:
        for failure in (AWAY, AWAY, SLOW, OTHER, AWAY):
            log.note(failure, Model.ALS_ONLY)
        now += PAUSE_SECONDS - 1
        log.note(AWAY, Model.ALS_ONLY)
        now += 1
        log.note(AWAY, Model.POPULARITY_FALLBACK)
        log.note(AWAY, Model.ALS_ONLY)
        now += 10 * PAUSE_SECONDS
        log.note(SLOW, Model.ALS_ONLY)
    assert [(line["stage"], line["reason"], line["lists"]) for line in lines] == [
        ("ranking", "DEPENDENCY_UNAVAILABLE", 1),
        ("ranking", "DEPENDENCY_TIMEOUT", 1),
        ("candidate", "DEPENDENCY_UNAVAILABLE", 1),
        ("ranking", "DEPENDENCY_UNAVAILABLE", 4),
        ("ranking", "DEPENDENCY_TIMEOUT", 1),
    ]
    assert (lines[3]["log_level"], lines[3]["detail"], lines[3]["model"]) == (
        "warning",
        "UNAVAILABLE: no route",
        "popularity_fallback",
    )


def test_a_line_does_not_count_the_lists_of_an_older_outage() -> None:
    now = 1_000.0
    log = StepDownLog(clock=lambda: now)
    with capture_logs() as lines:
        for seconds in (0, 1, 1, PAUSE_SECONDS, 1, 3 * 86_400, PAUSE_SECONDS):
            now += seconds
            log.note(AWAY, Model.ALS_ONLY)
    assert [line["lists"] for line in lines] == [1, 3, 1, 1]
