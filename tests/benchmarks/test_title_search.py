"""The benchmark runs; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import title_search
from training.data.generated import N_MOVIES, write_sample


def test_a_search_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample(tmp_path)
    title_search.main(tmp_path, movies=2 * N_MOVIES, queries=20)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row[1].strip() for row in rows] == [*title_search.KINDS]
    empty = {row[1].strip(): row[5].strip() for row in rows}
    assert empty["no title"] == "100%"
    assert {empty[name] for name, kind in title_search.KINDS.items() if not kind.filtered} == {"0%", "100%"}
