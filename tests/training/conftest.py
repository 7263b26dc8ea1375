"""What tests of whole jobs share: an MLflow store that is set up already."""

import logging
import pkgutil
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from matplotlib.figure import Figure

from serving.bundle.store import BundleStore
from tests.shared import SharedFolders
from training.release.local_store import local_store, make_ready


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow's and Optuna's pools leave databases to the garbage collector: Python 3.13 warns of each."""
    unclosed = pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3.Connection:ResourceWarning")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(unclosed)


@pytest.fixture(autouse=True)
def _bundles_are_tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of tests load what they publish in this process: one of its own takes two seconds for each."""

    def load(loaders: Sequence[str], store: BundleStore, bundle_id: str) -> None:
        for loader in loaders:
            pkgutil.resolve_name(loader)(store, bundle_id)

    monkeypatch.setattr("training.jobs.train.try_loading", load)


@pytest.fixture(autouse=True)
def _figures_are_not_drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of tests have empty figures, but for the tests of reports: to draw them takes three seconds."""
    if request.module.__name__.rpartition(".")[2] != "test_report":
        monkeypatch.setattr(Figure, "savefig", lambda *_arguments, **_options: None)


@pytest.fixture(scope="session")
def empty_store(shared_folders: SharedFolders) -> Path:
    """An SQLite file with MLflow's tables: making them takes seconds."""
    folder = shared_folders.made_by(lambda folder: make_ready(local_store(folder)), "mlflow")
    return folder / "mlflow.db"


@pytest.fixture
def make_root(empty_store: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes folders of artefacts, each with an MLflow store."""

    def make(name: str) -> Path:
        root = tmp_path / name
        root.mkdir()
        shutil.copy(empty_store, root / "mlflow.db")
        return root

    return make


@pytest.fixture
def root(make_root: Callable[[str], Path]) -> Path:
    """A folder of artefacts with an MLflow store."""
    return make_root("root")


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Commands send the process's logs to their own output: not for longer than a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
