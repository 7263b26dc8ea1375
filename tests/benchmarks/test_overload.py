"""The benchmark runs; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import overload


@pytest.mark.e2e
def test_every_load_is_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overload.main(bundle_root, seconds=0.3, rounds=1)
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    cells = {row[0].strip(): row[1:] for row in rows}
    assert all(float(cell) > 0 for cell in cells["asked/s"])
    assert all(float(cell) > 0 for cell in cells["recovered"])
