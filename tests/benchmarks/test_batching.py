"""The benchmark runs; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import batching
from benchmarks.servers import ServerError, serving


@pytest.mark.long
@pytest.mark.e2e
def test_both_gateways_are_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batching.main(bundle_root, seconds=0.1, rounds=1)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [int(row[1]) for row in rows] == [n for n in (1, 8, 32, 64) for _ in range(3)]
    assert all(float(cell) > 0 for row in rows for cell in row[3:6])
    assert {row[6].strip() for row in rows} == {"0", ""}  # none degraded


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="BUNDLE_ROOT: is required"),
        serving("gateway", tmp_path / "gateway.log", {}),
    ):
        pass
