"""The benchmark runs; what it measures is for no test to judge."""

import pytest

from benchmarks import start


@pytest.mark.e2e
@pytest.mark.parametrize("user_shards", [1, 3])
def test_starts_are_measured(capsys: pytest.CaptureFixture[str], user_shards: int) -> None:
    start.main(movies=1_000, users=2_000, ratings_per_user=20, starts=1, user_shards=user_shards)
    (row,) = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert all(float(figure) > 0 for figure in row[1:-1])
