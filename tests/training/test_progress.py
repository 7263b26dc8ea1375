"""What a job remembers of its steps."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training import progress
from training.progress import Progress


def test_steps_are_remembered_in_order_with_the_part_they_were_for() -> None:
    out = io.StringIO()
    job = Progress(Console(file=out))
    with job.step("Reading"):
        pass
    job.enter("past", "Measuring")
    with job.step("Fitting", 2) as advance:
        advance()
    assert [(step.part, step.title) for step in job.steps] == [("", "Reading"), ("past", "Fitting")]
    assert all(step.seconds >= 0 and step.cpu_seconds >= 0 for step in job.steps)
    assert out.getvalue().splitlines() == ["  Reading: 0.0 s", "Measuring", "  Fitting: 0.0 s"]


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are the kernel's")
def test_a_steps_peak_is_its_own_and_not_that_of_the_steps_before() -> None:
    job = Progress(Console(quiet=True))
    for size in (50_000_000, 1):
        with job.step("Holding"):
            np.ones(size)
    large, small = (step.peak_bytes for step in job.steps)
    assert large is not None
    assert small is not None
    assert large - small > 300_000_000  # of 400


@pytest.mark.parametrize("status", [None, "Name:\tpython\nVmRSS:\t  1024 kB\n"])
def test_where_the_system_does_not_tell_the_peak_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str | None
) -> None:
    """A sandbox may lack the files, or have one with only some of its lines."""
    monkeypatch.setattr(progress, "STATUS", tmp_path / "status")
    if status is None:
        monkeypatch.setattr(progress, "CLEAR", tmp_path / "nowhere" / "clear")
    else:
        (tmp_path / "status").write_text(status)
    job = Progress(Console(quiet=True))
    with job.step("Holding"):
        pass
    assert job.steps[0].peak_bytes is None
