"""The benchmark runs, and names every group; what it measures is for no test to judge."""

from pathlib import Path

import pytest

from benchmarks import feature_groups
from serving.features.documentation import MEASURED
from serving.features.sets import FeatureSet
from training.models.recipe import RankerParameters


@pytest.mark.long
def test_groups_and_sources_are_measured(
    few_generated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_groups, "RankerParameters", lambda **_: RankerParameters(depth=1))
    monkeypatch.setattr("training.experiments.feature_selection._TREES", 2)
    feature_groups.main(few_generated, seeds=1)
    lines = capsys.readouterr().out.splitlines()
    assert MEASURED.strip() in lines
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")]
    second = next(place for place, row in enumerate(rows) if row[0] == "Source")
    groups, sources = rows[1:second], rows[second + 1 :]
    assert [row[0] for row in groups] == [group.NAME for group in FeatureSet.EXTENDED.groups]
    for name, by_user, by_time, alone, _ in groups:
        stays = name in {"user", "pace", "movie", "retrieval", "place"}
        assert [not cell for cell in (by_user, by_time)] == [stays, stays]
        assert alone.isdecimal()  # cheap groups take none
    assert "als" in {row[0] for row in sources}
