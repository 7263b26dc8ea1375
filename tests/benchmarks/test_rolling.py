"""How the benchmark of rolling restarts sends and judges; what it does to containers needs an engine."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from benchmarks.rolling import Edges, Expected, Load, Outcome, Question, Tally, late_degraded, verdict

USER = Question.personal(7)
MOVIE = Question.neighbours(3)
LIST = ((1, 0.5), (2, 0.25))
EXPECTED = Expected({USER: LIST, MOVIE: LIST})
GOOD = Outcome("steady", 0.0, 0.01, USER, model="two_stage", bundle_id="b", movies=LIST)
FAILED = Outcome("steady", 0.0, 0.01, USER, failure="503")
DEGRADED = replace(GOOD, model="als_only", degraded=True)


@pytest.mark.parametrize(
    ("outcome", "differs"),
    [
        (GOOD, False),
        (replace(GOOD, movies=((1, 0.5), (2, 0.25 + 1e-9))), False),
        (replace(GOOD, movies=((1, 0.5), (2, 0.26))), True),
        (replace(GOOD, movies=((2, 0.5), (1, 0.25))), True),
        (replace(GOOD, movies=((1, 0.5),)), True),
        (replace(GOOD, model="als_only"), True),
        (replace(GOOD, question=MOVIE, model="als_cosine"), False),
        (replace(GOOD, question=MOVIE, model="genre_jaccard"), True),
    ],
)
def test_an_answer_is_compared_with_what_its_bundle_gives(outcome: Outcome, *, differs: bool) -> None:
    assert EXPECTED.differs(outcome) is differs


def test_a_phase_is_counted() -> None:
    wrong = replace(GOOD, movies=())
    tally = Tally.of([GOOD, GOOD, FAILED, DEGRADED, wrong], EXPECTED.differs)
    assert (tally.requests, tally.failed, tally.degraded, tally.wrong) == (5, 1, 1, 1)
    assert dict(tally.bundles) == {"b": 4}


def test_only_a_kill_may_degrade_a_few() -> None:
    few = Tally.of([GOOD] * 99 + [DEGRADED], EXPECTED.differs)
    many = Tally.of([GOOD] * 98 + [DEGRADED] * 2, EXPECTED.differs)
    failed = Tally.of([GOOD, FAILED], EXPECTED.differs)
    assert verdict({"kill": few}, late=0) == []
    assert verdict({"kill": many}, late=0) == ["kill: 2 degraded"]
    assert verdict({"restart": few}, late=0) == ["restart: 1 degraded"]
    assert verdict({"kill": failed}, late=1) == [
        "kill: 1 failed",
        "kill: 1 degraded more than 3 s after the kill",
    ]


def test_degraded_answers_are_late_3_s_after_the_kill() -> None:
    times = (9.0, 10.1, 12.9, 13.1, 20.5)
    outcomes = [replace(DEGRADED, phase="kill", at=at) for at in times]
    assert late_degraded(outcomes, kills=[10.0, 20.0]) == 2  # at 9.0, before any, and at 13.1


async def test_an_edge_that_is_not_ready_gets_nothing() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if request.url.path == "/readyz":
            return httpx.Response(503 if host == "two" else 200)
        asked.append(host)
        if request.url.path.endswith("/similar"):
            return httpx.Response(504, text="too\nlate")
        movies = [{"movie": {"movie_id": movie}, "score": score} for movie, score in LIST]
        body = {"model": "two_stage", "degraded": False, "fallback_reason": "", "bundle_id": "b"}
        return httpx.Response(200, json=body | {"movies": movies})

    transport = httpx.MockTransport(answer)
    edges = Edges(
        [httpx.AsyncClient(base_url=f"http://{host}", transport=transport) for host in ("one", "two")]
    )
    load = Load(edges, [USER, MOVIE], per_second=1_000)
    watchers = [asyncio.create_task(edges.watch(place)) for place in (0, 1)]
    while not edges.in_rotation:  # noqa: ASYNC110  # watched by polling
        await asyncio.sleep(0.01)
    async with load.running():
        while len(load.outcomes) < 10:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    edges.in_rotation.clear()
    assert edges.next() is None
    for watcher in watchers:
        watcher.cancel()
    assert set(asked) == {"one"}
    assert {one.failure for one in load.outcomes} == {None, "504 too late"}
    assert [EXPECTED.differs(one) for one in load.outcomes if one.failure is None][:5] == [False] * 5
