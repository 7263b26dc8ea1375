"""The benchmark runs, on systems that recommend the same; what it measures is for no test to judge."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
import typer

from benchmarks.serving import __main__ as serving
from benchmarks.serving import profile
from benchmarks.serving.load import Ask
from benchmarks.serving.systems import NUMPY, OURS, TITLES, DisagreementError, System, compare

IN_FLIGHT = ("1", "4")


@pytest.mark.long
@pytest.mark.e2e
def test_all_systems_agree_and_are_measured(bundle_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    serving.main(bundle_root=bundle_root, seconds=0.1, rounds=1, in_flight=",".join(IN_FLIGHT), output=output)
    record = json.loads(output.read_text())
    for ratio in ("cpu_over_numpy", "cpu_over_usual", "rest_cpu_over_numpy", "answers_over_numpy"):
        assert tuple(record["ratios"][ratio]) == IN_FLIGHT
    assert tuple(record["ratios"]["p50_over_floor"]) == ("1",)
    assert set(record["ratios"]["look_up_p50_over_hop"]) == {"popular", "similar", "movie"}
    milliseconds = {"batch_cpu_ms_per_user", "batch_ms_per_user"}
    # A busy machine may not finish a single pair of pages, without and with reasons, in the time of the load.
    assert milliseconds <= set(record["milliseconds"]) <= {*milliseconds, "explaining_ms"}
    assert set(record["lists"]) == set(TITLES)
    lists = [measured for system in record["lists"].values() for measured in system.values()]
    assert all(measured["answers"] > 0 and measured["degraded"] == 0 for measured in lists)
    assert set(record["memory_mib"]["rest"]) == {"envoy", "gateway", "candidate", "ranking"}
    assert record["lists"]["rest"]["4"]["batch_sizes"]["ranking"] >= 1
    assert output.with_suffix(".svg").read_text().startswith("<?xml")


@pytest.mark.long
@pytest.mark.e2e
def test_each_process_gets_a_flame_graph(
    bundle_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        profile.main(bundle_root=bundle_root, seconds=1, in_flight="4", output=tmp_path)
    except typer.Exit:
        printed = capsys.readouterr().out
        assert "permission" in printed.lower(), printed
        pytest.skip("py-spy may not look into processes here")
    names = ("gateway", "candidate", "ranking", "similarity", "numpy")
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}-4.svg" for name in names}


def test_systems_that_recommend_something_else_are_not_compared() -> None:
    same = {OURS: listing(1, 2), NUMPY: listing(1, 2)}
    compare(same, users=[7])
    with pytest.raises(DisagreementError, match=r"user 7: ours lists \[1, 2\], numpy lists \[2, 1\]"):
        compare({**same, NUMPY: listing(2, 1)}, users=[7])


def listing(*movie_ids: int) -> System:
    """A system that gives everybody these movies."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[Ask]:
        async def ask(request: bytes) -> bytes:
            return orjson.dumps({"movies": [{"movie": {"movie_id": movie_id}} for movie_id in movie_ids]})

        yield ask

    return System(connect=connect, request=lambda user_id: b"%d" % user_id, page=orjson.loads, processes={})
