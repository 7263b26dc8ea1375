"""The benchmark runs; what it measures is for no test to judge."""

import sys
from pathlib import Path

import pytest

from benchmarks import lists_for_everybody


@pytest.mark.long
def test_lists_are_measured(
    bundle_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lists_for_everybody", "--bundle-root", str(bundle_root)])
    lists_for_everybody.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith("five answers to taste movies: 0.")
