"""What all tests share: one bundle, trained once in a run on a small generated data set."""

import os

# Before numpy: implicit warns of BLAS threads beside its own, and warnings fail tests.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from training.engine.local import LocalEngine
from training.models.job_context import JobContext
from training.release.mlflow_env import MLFLOW_QUIET

os.environ.update(MLFLOW_QUIET)

import gc
import pickle
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from rich.console import Console

from serving.bundle.store import BundleStore
from serving.features.sets import FeatureSet
from serving.sources import SourceWeights
from tests.shared import SharedFolders
from training.data.generated import write_sample
from training.data.movielens.data_set import read_data_set
from training.data.movielens.movies import MovieTable
from training.evaluation.splits import SplitProtocol
from training.models.ranker_selection import RankerChoice
from training.models.recipe import DEFAULT_PARAMETERS, Loss, RankerParameters, Recipe
from training.models.two_stage import TwoStage, fit_two_stage
from training.progress import Progress
from training.publish.publish import Build, publish

# A timing never decides a test.
settings.register_profile(
    "untimed", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

FEW_USERS = 150


def pytest_xdist_auto_num_workers() -> int:
    """Three workers to two processors: many tests wait, for servers or for what must not come."""
    return max(1, 3 * (os.cpu_count() or 1) // 2)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: to look through it for garbage takes a third of small tests."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Trained:
    """The trained models beside the bundle that they were written to."""

    root: Path
    bundle_id: str
    two_stage: TwoStage
    table: MovieTable


@pytest.fixture(scope="session")
def shared_folders(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SharedFolders:
    """What the workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return SharedFolders(base if worker_id == "master" else base.parent)


@pytest.fixture(scope="session")
def generated(shared_folders: SharedFolders) -> Path:
    """Folder of the generated data set; not to be changed."""
    return shared_folders.made_by(write_sample, "generated")


def write_first_users(n_users: int, source: Path, folder: Path) -> None:
    """Writes a data set with the movies of another, and the ratings of its first users."""
    for name in ("movies.csv", "links.csv"):
        shutil.copy(source / name, folder)
    header, *lines = (source / "ratings.csv").read_text().splitlines()
    kept = [line for line in lines if int(line.partition(",")[0]) <= n_users]
    (folder / "ratings.csv").write_text("\n".join([header, *kept, ""]))


@pytest.fixture(scope="session")
def few_generated(shared_folders: SharedFolders, generated: Path) -> Path:
    """Folder of the generated data set with the first of its users; not to be changed."""
    return shared_folders.made_by(partial(write_first_users, FEW_USERS, generated), "few")


@pytest.fixture(scope="session")
def trained(shared_folders: SharedFolders, generated: Path) -> Trained:
    def train(folder: Path) -> None:
        table, clean = read_data_set(generated)
        recipe = Recipe(
            als=DEFAULT_PARAMETERS,
            ranker=RankerParameters(iterations=50),
            feature_groups=FeatureSet.EXTENDED.groups,
            sources=SourceWeights(als=1.0, transitions=0.5, popularity=0.25),
            protocol=SplitProtocol.USER,
            seed=0,
            threads=2,
        )
        progress = Progress(Console(quiet=True))
        choice = RankerChoice(loss=Loss.LOGLOSS, iterations=50, validation_ndcg={})
        two_stage = fit_two_stage(clean.ratings, JobContext(table, recipe, progress, LocalEngine(2)), choice)
        build = Build(
            two_stage=two_stage, table=table, recipe=recipe, dataset_tag=clean.tag("sample"), metrics={}
        )
        bundle_id = publish(folder / "bundles", build, progress)
        (folder / "models").write_bytes(pickle.dumps((bundle_id, two_stage, table)))

    folder = shared_folders.made_by(train, "trained")
    bundle_id, two_stage, table = pickle.loads((folder / "models").read_bytes())  # noqa: S301  # our own
    return Trained(root=folder / "bundles", bundle_id=bundle_id, two_stage=two_stage, table=table)


@pytest.fixture(scope="session")
def bundle_root(trained: Trained) -> Path:
    """A root with one published bundle; not to be changed."""
    return trained.root


@pytest.fixture
def own_bundle_root(trained: Trained, tmp_path: Path) -> BundleStore:
    """A copy of the bundles that a test may damage."""
    return BundleStore(Path(shutil.copytree(trained.root, tmp_path / "bundles")))
