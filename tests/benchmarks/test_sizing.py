"""The benchmark runs; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import sizing


@pytest.mark.long
@pytest.mark.e2e
def test_every_server_is_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizing.main(bundle_root, seconds=0.2)
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["candidate", "ranking", "similarity", "gateway"]
    assert all(0 < float(row[3]) <= float(row[4]) for row in rows)
