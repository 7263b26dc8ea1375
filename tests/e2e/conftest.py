"""The whole system, started once by each worker: who does harm mends it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.published import PublishedBundle
from serving.bundle.store import BundleStore
from tests.e2e.oracle import Oracle
from tests.e2e.rest import Rest
from tests.e2e.system import System, running_system


@pytest.fixture(scope="session")
def system(bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(bundle_root, tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest.fixture(scope="session")
def rest(system: System) -> Iterator[Rest]:
    with Rest.at(system.plan.url) as rest:
        yield rest


@pytest.fixture(scope="session")
def published(bundle_root: Path) -> PublishedBundle:
    return PublishedBundle.read(bundle_root, BundleStore(bundle_root).pointer().bundle_id)


@pytest.fixture(scope="session")
def oracle(bundle_root: Path) -> Oracle:
    return Oracle.load(bundle_root)
