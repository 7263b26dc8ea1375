"""Benchmarks run, and print their tables; what they measure is for no test to judge."""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest

from benchmarks import (
    batching,
    explaining,
    feature_groups,
    lists_for_everybody,
    model_parts,
    outage,
    reloading,
    retrieval,
    sizing,
    start,
    title_search,
)
from benchmarks.replicas import SERVERS, Replica, envoy_between
from benchmarks.servers import ServerError, serving
from serving.features.sets import FeatureSet
from tests.deploy.edge import ROOT
from tests.faults.cluster import train_bundles
from training.data.generated import N_MOVIES, write_sample
from training.features.documentation import MEASURED
from training.models.recipe import RankerParameters

SWAPS = int(os.environ.get("MOVIEREC_TEST_PROCESS_SWAPS", "3"))


def rows(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Cells of the tables that were printed."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


@pytest.mark.long
@pytest.mark.e2e
def test_batching_measures_both_gateways(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batching.main(bundle_root, seconds=0.1, rounds=1)
    measured = rows(capsys)
    assert [int(row[0]) for row in measured] == [n for n in (1, 8, 32, 64) for _ in range(3)]
    assert all(float(cell) > 0 for row in measured for cell in row[2:5])
    assert {row[5] for row in measured} == {"0", ""}  # none degraded


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="BUNDLE_ROOT: is required"),
        serving("gateway", tmp_path / "gateway.log", {}),
    ):
        pass


@pytest.mark.long
@pytest.mark.e2e
def test_reasons_are_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explaining.main(bundle_root, users=3)
    measured = rows(capsys)
    assert len(measured) == 5
    assert all(float(row[1]) > 0 for row in measured)
    assert [row[2] == "" for row in measured] == [True, False, False, False, False]


@pytest.mark.long
def test_groups_and_sources_are_measured(
    few_generated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_groups, "RankerParameters", lambda **_: RankerParameters(depth=1))
    monkeypatch.setattr("training.experiments.feature_selection._TREES", 2)
    feature_groups.main(few_generated, seeds=1)
    lines = capsys.readouterr().out.splitlines()
    assert MEASURED.strip() in lines
    table = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")
    ]
    second = next(place for place, row in enumerate(table) if row[0] == "Source")
    groups, sources = table[1:second], table[second + 1 :]
    assert [row[0] for row in groups] == [group.NAME for group in FeatureSet.EXTENDED.groups]
    for name, by_user, by_time, alone, _ in groups:
        stays = name in {"user", "pace", "movie", "retrieval", "place"}
        assert [not cell for cell in (by_user, by_time)] == [stays, stays]
        assert alone.isdecimal()  # cheap groups take none
    assert "als" in {row[0] for row in sources}


@pytest.mark.long
def test_lists_for_everybody_are_measured(
    bundle_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lists_for_everybody", "--bundle-root", str(bundle_root)])
    lists_for_everybody.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith("five answers to taste movies: 0.")


def test_parts_of_models_are_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_parts.main(bundle_root, users=2)
    measured = rows(capsys)
    parts = {"retrieval", "all features", "movie", "trees", "reasons for a page"}
    assert parts <= {row[0] for row in measured}
    assert all(len(row) == 4 for row in measured)


@pytest.mark.long
@pytest.mark.row(32)
@pytest.mark.e2e
def test_attempts_stay_within_their_bound_in_an_outage(
    bundle_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outage.main(bundle_root, requests=200, seconds=1)
    measured = [row for row in rows(capsys) if row[0]]
    assert len(measured) == 10
    for load, _, _, ends, at_stage, at_gateways in measured:
        assert float(at_gateways) == 1, ends
        assert float(at_stage) <= (1.25 if load.endswith("at once") else 3)


@pytest.mark.row(10)
@pytest.mark.e2e
@pytest.mark.long
def test_processes_swap_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_bundles(tmp_path, 1, 2, 3)
    reloading.main(tmp_path, swaps=SWAPS, rate=50, settle_seconds=0.5)
    said = " ".join(capsys.readouterr().out.split())
    assert " 0 failed, " in said
    assert " 0 wrong; " in said
    for name in ("candidate", "ranking", "similarity", "gateway"):
        assert f"│ {name} │ " in said


def test_envoy_takes_the_way_between_the_replicas(tmp_path: Path) -> None:
    """To be cut off, two of every server need a network of their own."""
    servers = {
        server: (
            Replica(server, "127.0.0.1", tmp_path / "one.log", {}),
            Replica(server, "127.0.0.2", tmp_path / "other.log", {}),
        )
        for server in SERVERS
    }
    with chdir(ROOT):
        command = envoy_between(servers, tmp_path).command
    done = subprocess.run([*command, "--mode", "validate"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_retrieval_is_measured_and_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample(tmp_path)
    retrieval.main(tmp_path, movies=20_000, users=3)
    shares = [float(row[1].rstrip("%")) for row in rows(capsys)]
    assert len(shares) == 3
    assert shares == sorted(shares)  # the less norms spread, the more is read
    assert 0 < shares[0] < 100


@pytest.mark.long
@pytest.mark.e2e
def test_every_server_is_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizing.main(bundle_root, seconds=0.2)
    measured = rows(capsys)
    assert [row[0] for row in measured] == ["candidate", "ranking", "similarity", "gateway"]
    assert all(0 < float(row[3]) <= float(row[4]) for row in measured)


@pytest.mark.e2e
@pytest.mark.parametrize("user_shards", [1, 3])
def test_starts_are_measured(capsys: pytest.CaptureFixture[str], user_shards: int) -> None:
    start.main(movies=1_000, users=2_000, ratings_per_user=20, starts=1, user_shards=user_shards)
    (row,) = rows(capsys)
    assert all(float(figure) > 0 for figure in row)


def test_a_search_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample(tmp_path)
    title_search.main(tmp_path, movies=2 * N_MOVIES, queries=20)
    empty = {row[0]: row[4] for row in rows(capsys)}
    assert [*empty] == [*title_search.KINDS]
    assert empty["no title"] == "100%"
    assert {empty[name] for name, kind in title_search.KINDS.items() if not kind.filtered} == {"0%", "100%"}
