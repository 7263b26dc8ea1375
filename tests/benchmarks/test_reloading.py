"""The benchmark runs; what it measures is for no test to judge."""

import os
from pathlib import Path

import pytest

from benchmarks import reloading
from tests.faults.cluster import train_bundles

SWAPS = int(os.environ.get("MOVIEREC_TEST_PROCESS_SWAPS", "3"))


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
