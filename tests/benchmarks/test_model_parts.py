"""The benchmark runs; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import model_parts


def test_parts_are_measured(bundle_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_parts.main(bundle_root, users=2)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert {"retrieval", "all features", "movie", "trees", "reasons for a page"} <= {
        row[1].strip() for row in rows
    }
    assert all(len(row) == 6 for row in rows)
