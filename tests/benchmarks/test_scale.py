"""What a size takes: sums that can be done by head."""

import pytest
import typer

from benchmarks import scale


def test_as_many_shards_as_the_fullest_needs(capsys: pytest.CaptureFixture[str]) -> None:
    # 16 GB of ratings and 0.5 of users, twice while a bundle is loaded.
    scale.main(ratings=1e9, users=1e6, movies=1e3, replica_gb=17, per_second=10_000)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "1,000,000,000 ratings of 1,000,000 users by 1,000 movies, 10,000 lists a second:"
    assert told[1].startswith("2 shards; the fullest has 1.00")
    # 10,000 lists take 7, 6 and 7 cores, of which 70 % are used: two halves of 6 / 0.7 are 2 x 5 replicas.
    assert [line.split(" replicas")[0] for line in told[2:5]] == [
        "gateway: 10",
        "candidate: 10",
        "ranking: 10",
    ]
    assert told[5].startswith("together: 28.6 cores")
    assert told[6].startswith("training: driver 186.0 GB, each worker process 1.0 GB of factors")


def test_one_shard_holds_everybody_where_they_fit(capsys: pytest.CaptureFixture[str]) -> None:
    scale.main(ratings=1e6, users=1e4, movies=1e3, replica_gb=1, per_second=1)
    told = capsys.readouterr().out
    assert "1 shards; the fullest has 1.0000 times" in told
    assert "gateway: 2 replicas of 0.0 GB" in told


def test_what_no_number_of_shards_can_hold_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        scale.main(ratings=1e10, users=1e3, movies=1e3, replica_gb=1, per_second=1)
    assert "of 100 shards a replica of candidate needs" in capsys.readouterr().out
