"""The benchmark runs; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import explaining


@pytest.mark.long
@pytest.mark.e2e
def test_reasons_are_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explaining.main(bundle_root, users=3)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(rows) == 5
    assert all(float(row[2]) > 0 for row in rows)
    assert [row[3].strip() == "" for row in rows] == [True, False, False, False, False]
