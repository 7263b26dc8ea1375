"""The benchmark runs, and compares answers; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import retrieval
from training.data.generated import write_sample


def test_retrieval_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample(tmp_path)
    retrieval.main(tmp_path, movies=20_000, users=3)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(rows) == 3
    shares = [float(row[2].strip().rstrip("%")) for row in rows]
    assert shares == sorted(shares)  # the less norms spread, the more is read
    assert 0 < shares[0] < 100
