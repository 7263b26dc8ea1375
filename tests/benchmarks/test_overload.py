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


def test_a_share_of_nothing_is_not_measured() -> None:
    some, nothing = overload.Tally(1.0, answers=[0.1]), overload.Tally(1.0)
    rows = dict(overload.rows(some, nothing))
    assert rows["of peak"](some) == "1.00"
    assert rows["of second"](some) == "-"  # a busy machine gave no full answer in time
