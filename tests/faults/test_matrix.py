"""The page of the fault matrix says what came of the tests that name its rows."""

import re
import subprocess
import sys
from pathlib import Path

from tests.faults.matrix import ROWS

PLUGINS = ("-p", "tests.faults.matrix", "-p", "no:schemathesis", "-p", "no:xdist")
MARK = re.compile(r"pytest\.mark\.row\(([\d, ]+)\)")
TESTS = """
import pytest

@pytest.mark.row(1)
@pytest.mark.parametrize("stage", ["one", "other"])
def test_it_holds(stage, record_property):
    record_property("requests", 1_000)
    record_property("failed", 1)
    record_property("degraded", 2)
    record_property("p99_ms", 7 if stage == "one" else 8)

@pytest.mark.row(1, 2)
def test_it_does_not():
    assert False

@pytest.mark.row(3)
@pytest.mark.skip
def test_it_was_not_tried():
    pass
"""


def test_a_row_is_what_its_tests_were(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = row: of the matrix\n")
    command = [sys.executable, "-m", "pytest", *PLUGINS, "--matrix", "page.md"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lines = (tmp_path / "page.md").read_text().splitlines()
    cells = {line.split(" | ")[0]: line.removesuffix(" |").split(" | ")[3:] for line in lines}
    held, did_not = "[it holds](../test_one.py) (2 cases)", "[it does not](../test_one.py), **1 failed**"
    assert cells["| 1"] == [f"{held}<br>{did_not}", "2,000", "1,998", "4", "-", "**no**"]
    assert cells["| 2"] == [did_not, "-", "-", "-", "-", "**no**"]
    assert cells["| 3"] == cells["| 4"] == ["-", "-", "-", "-", "-", "not tried"]
    assert "- row 1, it holds (other): requests 1000, failed 1, degraded 2, p99_ms 8" in lines


def test_every_row_has_a_test() -> None:
    rows = [row for table in ROWS.values() for row in table]
    assert rows == list(range(1, 61))
    files = [path for path in Path(__file__).parents[1].rglob("test_*.py") if path != Path(__file__)]
    marks = [mark for path in files for mark in MARK.findall(path.read_text())]
    assert {int(row) for mark in marks for row in mark.split(",")} == set(rows)
