"""The benchmark runs; what it measures is for no test to judge."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import overload


@pytest.mark.long
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


@pytest.mark.row(31)
@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a processor for the load alone")
def test_five_times_overload(bundle_root: Path, record_property: Callable[[str, object], None]) -> None:
    """The load has one processor, all servers have the other."""
    tallies = overload.measured(
        bundle_root, seconds=20, rounds=1, console=Console(quiet=True), edge_alone=True
    )
    peak, over = tallies[overload.PEAK], tallies[overload.BEHIND_EDGE]
    median, late = np.percentile(over.refusals, [50, 99])
    looked_up = len(over.movies) + over.movies_refused
    record_property("requests", over.ends.total())
    record_property("ends", ", ".join(f"{end} {count:,}" for end, count in over.ends.most_common()))
    beside = tallies[overload.ACCOMPANIED]
    record_property("of_peak", round(over.goodput / peak.goodput, 2))
    record_property("of_peak_beside_as_many_calls", round(over.goodput / beside.goodput, 2))
    record_property("refused_ms_p50_p99", f"{1_000 * median:.1f}, {1_000 * late:.1f}")
    record_property("recovered_ms", round(1_000 * max(over.recovery)))
    record_property("look_ups_refused", f"{over.movies_refused} of {looked_up}")
    assert over.asked > 4 * peak.goodput
    assert over.goodput >= 0.9 * peak.goodput
    assert median < 0.01
    assert max(over.recovery) < 2
    assert over.movies_refused <= 0.001 * looked_up
    assert over.unhealthy == 0
