"""The commands as people meet them: help, locks, and errors in words."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from typer.main import get_command
from typer.testing import CliRunner, Result

from serving.bundle.store import BundleStore
from serving.ratings import Ratings
from tests.training.release.candidate import holder_of
from tests.training.small import PROGRESS, RECIPE, build_of, table_of, tastes
from training.cli import recipe_options
from training.cli.train import app
from training.evaluation.splits import SplitProtocol
from training.experiments.experiment import measure
from training.jobs import evaluate
from training.models.job_context import JobContext
from training.models.ranker_groups import TooFewUsersError
from training.publish.publish import publish
from training.release.local_store import local_store
from training.release.registry import BUNDLE_TAG, CANDIDATE, Registry

pytestmark = pytest.mark.usefixtures("own_logs")

QUICK = (
    *("--threads", "1", "--ranker-iterations", "10", "--ranker-depth", "3"),
    *("--als-factors", "8", "--als-iterations", "3"),
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def assert_said_in_words(result: Result, *texts: str) -> None:
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    for text in texts:
        assert text in result.stderr


def published(root: Path, *seeds: int) -> list[str]:
    build, ids = build_of(), []
    for seed in seeds:  # another title, another bundle: quicker than another training
        table = replace(table_of(), titles=(f"Film of {seed}", *table_of().titles[1:]))
        ids.append(publish(root, replace(build, table=table), PROGRESS))
    return ids


def test_a_broken_data_set_is_said_in_words_by_the_process(tmp_path: Path, no_data: Path) -> None:
    failed = process("preprocess", "--data-dir", no_data, "--bundle-root", tmp_path / "bundles")
    assert failed.returncode == 1
    assert failed.stderr == (
        f"--data-dir or MOVIEREC_DATA_DIR does not name a data set: {no_data} is not a data set: expected "
        "ratings.csv and movies.csv, or ratings.parquet and movies.csv, or ratings.dat and movies.dat, or "
        "u.data and u.item\n"
    )


def test_broken_ratings_are_named_by_file_and_line(tmp_path: Path, no_data: Path) -> None:
    (no_data / "movies.csv").write_text("movieId,title,genres\n1,Film (1999),Drama\n")
    (no_data / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.0,10\nx,1,4.0,10\n")
    for command in ("train", "evaluate"):
        result = run(command, "--bundle-root", tmp_path / "bundles", "--data-dir", no_data)
        assert_said_in_words(result, "ratings.csv line 3: userId must be")


def test_the_data_set_is_read_from_the_environment(
    tmp_path: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOVIEREC_DATA_DIR", str(no_data))
    assert_said_in_words(run("train", "--bundle-root", tmp_path / "bundles"), f"{no_data} is not a data set")


@pytest.mark.row(43)
@pytest.mark.parametrize("command", ["train", "evaluate", "tune"])
def test_a_second_job_in_one_folder_stops(
    tmp_path: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("MOVIEREC_DATA_DIR", str(no_data))  # no download, should it go on
    with FileLock(tmp_path / ".training.lock"):
        result = run(command, "--bundle-root", tmp_path)
    assert_said_in_words(result)
    assert result.stderr == f"Another training job is at work in {tmp_path}.\n"
    assert result.stdout == ""


def test_the_lock_is_let_go_of(tmp_path: Path, no_data: Path) -> None:
    for _ in range(2):
        result = run("train", "--data-dir", no_data, "--bundle-root", tmp_path)
        assert_said_in_words(result, "is not a data set")
    with FileLock(tmp_path / ".training.lock", timeout=0):
        pass


def test_rolling_back_and_forth(tmp_path: Path) -> None:
    assert_said_in_words(run("rollback", "--bundle-root", tmp_path), "no bundle is published")
    (one,) = published(tmp_path, 1)
    assert_said_in_words(run("rollback", "--bundle-root", tmp_path), "no previous bundle in")
    (other,) = published(tmp_path, 2)
    assert BundleStore(tmp_path).pointer().bundle_id == other
    for current, previous in ((one, other), (other, one)):
        result = run("rollback", "--bundle-root", tmp_path)
        assert result.exit_code == 0
        assert result.stdout == f"Back at {current}, from {previous}; servers follow within a minute\n"
        assert BundleStore(tmp_path).pointer().bundle_id == current


def test_a_job_at_work_does_not_stop_a_rollback(tmp_path: Path) -> None:
    one, _ = published(tmp_path, 1, 2)
    with FileLock(tmp_path / ".training.lock"):
        result = run("rollback", "--bundle-root", tmp_path)
    assert result.exit_code == 0
    assert BundleStore(tmp_path).pointer().bundle_id == one


def write_tastes(folder: Path, *, title: str = "Film") -> None:
    ratings, ids = tastes(), table_of().movies.ids.ids
    rows = zip(
        ratings.users.ids[ratings.user_rows()],
        ids[ratings.movie_rows],
        ratings.values,
        ratings.times,
        strict=True,
    )
    lines = [f"{user},{movie},{value},{time}" for user, movie, value, time in rows]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines, ""]))
    movies = [f"{movie},{title} {movie} (1999),Drama" for movie in ids]
    text = "\n".join(["movieId,title,genres", *movies, ""])
    (folder / "movies.csv").write_text(text, encoding="utf-8")


@contextmanager
def unremovable(folder: Path) -> Iterator[None]:
    """Makes a folder that cannot be removed while the block runs."""
    inner = folder / "inner"
    inner.mkdir(parents=True)
    if os.geteuid() == 0:  # whom no permission keeps from it
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=False).returncode:  # noqa: S607
            pytest.skip("no right to mount")
        try:
            yield
        finally:
            subprocess.run(["umount", inner], check=True)  # noqa: S607
    else:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)


def test_what_fails_once_the_bundle_is_served_does_not_undo_its_publication(
    root: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old bundles, of which one cannot be removed: the new one is served and registered all the same."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_tastes(no_data)
    old = [root / "bundles" / f"old-{age}" for age in range(5)]
    with unremovable(old[3]):
        for age, folder in enumerate(old):
            folder.mkdir(exist_ok=True)
            os.utime(folder, (1_000 - age, 1_000 - age))
        trained = run("train", "--data-dir", no_data, "--bundle-root", root, "--force", *QUICK)
    assert trained.exit_code == 0, trained.output
    bundle_id = BundleStore(root).pointer().bundle_id
    assert f"Published bundle {bundle_id} in " in trained.stdout
    assert "old bundle not removed" in trained.stdout
    assert [folder.name for folder in old if folder.exists()] == ["old-0", "old-1", "old-3"]
    assert holder_of(CANDIDATE, Registry(local_store(root))).tags[BUNDLE_TAG] == bundle_id


def numbers() -> list[tuple[str, str, float, float]]:
    """Command, option, least and greatest value of each option that takes a number."""
    app_of_all: Any = get_command(app)
    return [
        (name, option.opts[0], option.min, option.max)
        for name, command in app_of_all.commands.items()
        for option in command.params
        if option.type_descriptor.annotation in {int, float}
    ]


def test_every_number_is_limited_on_both_sides() -> None:
    assert len(numbers()) > 40
    assert [one for one in numbers() if None in one] == []


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e30", "1e400", "-1e30", "9" * 40, "-1", "x", ""])
def test_silly_numbers_are_refused_before_any_work(
    tmp_path: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MOVIEREC_DATA_DIR", str(no_data))  # no download, should it go on
    options = {option: command for command, option, *_ in numbers()}
    # Those that only the kind of number decides are tried on one of each kind.
    some = options if value in {"nan", "-1"} else ("--seed", "--als-alpha")
    for option in some:
        command = options[option]
        result = run(command, f"{option}={value}", "--bundle-root", tmp_path / "bundles")
        assert result.exit_code == 2, (command, option, result.output)
        assert "Invalid value for" in result.stderr
        assert "Traceback" not in result.output
    assert not (tmp_path / "bundles").exists()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("alpha", [1e12, 1e30, 1e60])
def test_a_fit_without_a_finite_solution_is_said_in_words(
    tmp_path: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch, alpha: float
) -> None:
    write_tastes(no_data)
    monkeypatch.setattr(recipe_options, "als_of_options", lambda *_: replace(RECIPE.als, alpha=alpha))
    result = run("train-als", "--data-dir", no_data, "--bundle-root", tmp_path / "bundles")
    assert_said_in_words(result, f"ALS has no finite solution with alpha = {alpha:g}, ")
    assert result.stderr.count("\n") == 1


def test_where_everybody_has_seen_everything_nothing_is_published(tmp_path: Path, no_data: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [
        f"{user},{movie},{rng.integers(1, 11) / 2},{time}"
        for user in range(1, 41)
        for time, movie in enumerate(rng.permutation(np.arange(1, 21)))
    ]
    (no_data / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines, ""]))
    movies = [f"{movie},Film {movie} (1999),Drama" for movie in range(1, 21)]
    (no_data / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies, ""]))
    options = ("--data-dir", no_data, "--bundle-root", tmp_path / "bundles", "--force")
    job = run("train", *options, *QUICK)
    assert_said_in_words(job, "each user whose taste is known has rated every movie")
    assert not (tmp_path / "bundles" / "current").exists()


@pytest.mark.parametrize("command", ["train-popularity", "train-cf", "train-als"])
def test_a_single_model_that_nobody_can_judge_is_fitted_all_the_same(
    root: Path, no_data: Path, command: str
) -> None:
    (no_data / "movies.csv").write_text("movieId,title,genres\n1,Film (1999),Drama\n2,Other (1999),War\n")
    (no_data / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.0,10\n2,2,4.0,10\n")
    result = run(command, "--data-dir", no_data, "--bundle-root", root)
    assert result.exit_code == 0, result.output
    for part in ("val", "test"):
        assert f"{part}, protocol 'user': nobody can be judged" in result.stdout


def test_evaluating_leaves_out_a_protocol_that_the_data_are_too_few_for(
    tmp_path: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tastes(no_data)

    def measured(ratings: Ratings, job: JobContext, *rest: Any, **options: Any) -> Any:
        if job.recipe.protocol is SplitProtocol.TIME:
            raise TooFewUsersError("only 3 users")
        return measure(ratings, job, *rest, **options)

    monkeypatch.setattr(evaluate, "measure", measured)
    options = ("--data-dir", no_data, "--bundle-root", tmp_path / "bundles", "--seeds", "1", *QUICK)
    both = run("evaluate", *options)
    assert both.exit_code == 0, both.output
    assert "left out: only 3 users" in both.stdout
    assert "protocol 'user'" in both.stdout
    said = " ".join(both.stdout.split())
    assert "Strong generalisation with the recipe of seed 0 under 'user'" in said
    assert_said_in_words(run("evaluate", *options, "--protocol", "time"), "only 3 users")


@pytest.mark.parametrize(
    "uri", ["localhost:5000", "http://", "http://host:port", "sqlite:///", "nonsense://host"]
)
@pytest.mark.parametrize("command", ["train", "promote", "sync-runs"])
def test_a_tracking_uri_that_is_none_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("COLUMNS", "300")  # no line breaks
    result = run(command, "--bundle-root", tmp_path)
    assert result.exit_code == 2
    assert "MLFLOW_TRACKING_URI or --tracking-uri must begin with http:// or https://" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = process("mlflow-ui", "--bundle-root", tmp_path, "--port", str(port))
    assert result.returncode == 1
    assert result.stderr == f"port {port} on 127.0.0.1: Address already in use. --port names another\n"
    assert result.stdout == ""
