"""A job that dies at any moment ends, when it is run again, with the bundle of one that did not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from serving.bundle.store import BundleStore
from tests.training.cli.test_commands import QUICK, write_tastes
from training.checkpoints import NO_CHECKPOINTS, Arrays, Checkpoints
from training.cli.train import app


class KilledError(Exception):
    """Stands for SIGKILL."""


def test_a_finished_step_is_not_computed_again(tmp_path: Path) -> None:
    first = Checkpoints.of(tmp_path, "job").step(
        "one", lambda: {"a": np.arange(3), "b": np.ones((2, 2), order="F")}
    )
    again = Checkpoints.of(tmp_path, "job").step("one", lambda: pytest.fail("computed again"))
    for name in ("a", "b"):
        np.testing.assert_array_equal(first[name], again[name])
        assert first[name].dtype == again[name].dtype


def test_another_job_and_another_part_compute_for_themselves(tmp_path: Path) -> None:
    checkpoints = Checkpoints.of(tmp_path, "job")
    checkpoints.part("past").whole().step("one", lambda: {"a": np.array(1)})  # parts share those of the whole
    assert checkpoints.part("all").whole().step("one", lambda: pytest.fail("computed again"))["a"] == 1
    assert Checkpoints.of(tmp_path, "other").step("one", lambda: {"a": np.array(2)})["a"] == 2
    assert checkpoints.part("all").step("one", lambda: {"a": np.array(3)})["a"] == 3


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints.of(tmp_path, "job")

    def fails() -> Arrays:
        raise KilledError

    with pytest.raises(KilledError):
        checkpoints.step("one", fails)
    assert checkpoints.step("one", lambda: {"a": np.array(1)})["a"] == 1


def test_half_written_steps_are_removed(tmp_path: Path) -> None:
    Checkpoints.of(tmp_path, "job")
    (folder,) = (tmp_path / "checkpoints" / "job").iterdir()
    (folder / ".one.npz").write_bytes(b"half")
    Checkpoints.of(tmp_path, "job")
    assert list(folder.iterdir()) == []


def test_of_jobs_that_never_ended_well_the_last_one_is_kept(tmp_path: Path) -> None:
    """Refused by the gate, or killed and then started with other options: those are keys of one name."""
    job = tmp_path / "checkpoints" / "job"
    made: list[Path] = []
    for key in ("first", "second", "third"):
        Checkpoints.of(tmp_path, "job", key)
        made += [folder for folder in job.iterdir() if folder not in made]
        os.utime(made[-1], (0, len(made)))
    assert set(job.iterdir()) == set(made[1:])
    Checkpoints.of(tmp_path, "job", "second")
    assert set(job.iterdir()) == set(made[1:])


def test_nothing_is_kept_once_forgotten(tmp_path: Path) -> None:
    job, other = Checkpoints.of(tmp_path, "job"), Checkpoints.of(tmp_path, "other")
    for checkpoints in (job, other):
        checkpoints.step("one", lambda: {"a": np.array(1)})
    job.forget()
    job.forget()
    assert other.step("one", lambda: pytest.fail("computed again"))["a"] == 1
    other.forget()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def few_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    write_tastes(folder)
    return folder


def command(data: Path, root: Path) -> list[str]:
    return ["train-ranker", "--force", *QUICK, "--data-dir", str(data), "--bundle-root", str(root)]


def run_and_count(arguments: list[str], steps: int | None = None) -> tuple[Result, int]:
    """Runs a job, and dies when it asks for one more step; returns how many were computed until then."""
    step = Checkpoints.step
    computed = 0

    def counting(checkpoints: Checkpoints, name: str, compute: Callable[[], Arrays]) -> Arrays:
        def counted() -> Arrays:
            nonlocal computed
            if checkpoints is NO_CHECKPOINTS:
                return compute()
            if steps is not None and computed >= steps:
                raise KilledError
            arrays = compute()
            computed += 1  # only now: it may have taken steps of its own
            return arrays

        return step(checkpoints, name, counted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "step", counting)
        return CliRunner().invoke(app, arguments), computed


@pytest.fixture(scope="module")
def uninterrupted(
    few_data: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, int]:
    """The bundle_id of a job that nobody disturbs, and in how many steps it was made."""
    root = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(empty_store, root)
    result, steps = run_and_count(command(few_data, root))
    assert result.exit_code == 0, result.output
    return BundleStore(root).pointer().bundle_id, steps


@pytest.mark.row(42)
@pytest.mark.parametrize("share", [0.3, pytest.param(0.8, marks=pytest.mark.long)])
def test_killed_after_any_step_it_ends_the_same(
    few_data: Path, root: Path, uninterrupted: tuple[str, int], share: float
) -> None:
    bundle_id, steps = uninterrupted
    killed, survived = run_and_count(command(few_data, root), int(share * steps))
    assert isinstance(killed.exception, KilledError)
    assert 0 < survived < steps
    assert not (root / "current").exists()
    result, computed = run_and_count(command(few_data, root))
    assert result.exit_code == 0, result.output
    assert BundleStore(root).pointer().bundle_id == bundle_id
    assert computed == steps - survived
    assert not (root / "checkpoints").exists()


@pytest.mark.row(42)
@pytest.mark.parametrize(
    ("sign", "status"),
    [pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.long), (signal.SIGTERM, 143)],
)
def test_signals_end_a_real_job_and_leave_nothing_half_done(
    few_data: Path, tmp_path: Path, sign: signal.Signals, status: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "training", *command(few_data, tmp_path)]
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as job:
        while job.poll() is None and not list((tmp_path / "checkpoints").glob("train/*/past-*")):
            time.sleep(0.02)
        job.send_signal(sign)
        assert job.wait() == status
    assert not (tmp_path / "current").exists()


def test_a_killed_evaluation_fits_nothing_again(
    few_generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed under its second protocol: it has printed the table of the first, and keeps what it fitted."""
    params = tmp_path / "params.json"
    als = {"factors": 8, "iterations": 3, "regularization": 30}
    params.write_text(json.dumps({"als": als, "ranker": {"iterations": 10, "depth": 3, "max_users": 60}}))
    options = ["evaluate", "--data-dir", str(few_generated), "--bundle-root", str(tmp_path), "--threads", "1"]
    options += ["--seeds", "1", "--params", str(params)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "training", *options]
    folder = tmp_path / "checkpoints" / "evaluate"
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as job:
        while job.poll() is None and not list(folder.glob("*/time-seed-0-*")):
            time.sleep(0.02)
        job.kill()
        printed, _ = job.communicate()
        assert job.returncode == -signal.SIGKILL
    lifts = [line for line in printed.splitlines() if line.startswith("two-stage over ")]
    assert lifts
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/[!.]*")}
    monkeypatch.setattr(Checkpoints, "forget", lambda _checkpoints: None)
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert set(lifts) < set(result.output.splitlines())
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert any(path not in written for path in folder.glob("*/time-seed-0-*"))
