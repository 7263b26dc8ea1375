"""The benchmark runs, and attempts stay within their bound where there is a storm."""

from pathlib import Path

import pytest

from benchmarks import outage


@pytest.mark.long
@pytest.mark.row(32)
@pytest.mark.e2e
def test_every_load_is_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outage.main(bundle_root, requests=200, seconds=1)
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    measured = [[cell.strip() for cell in row] for row in rows if row[0].strip()]
    assert len(measured) == 10
    for load, _, _, ends, at_stage, at_gateways in measured:
        assert float(at_gateways) == 1, ends
        assert float(at_stage) <= (1.25 if load.endswith("at once") else 3)
