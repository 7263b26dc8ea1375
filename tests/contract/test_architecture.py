"""Who may import whom: the contracts hold, and each is broken by an import that it forbids."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]

PROCESSES = "processes stand beside each other, on the kit, on the API"
FLOORS = "training is built by floors, and each stands on lower ones"
NO_CIRCLE = "no modules or packages import each other in a circle"
CLIENT = "the client stands on the generated code alone"
ARRAYS = "domain code knows arrays, not messages"
NO_GRPC = "models and messages know no gRPC"
NO_TRAINING = "the training stack stays in training"
NO_STACK = "what runs beside servers needs no training stack"
NO_MODELS = "the gateway composes and does not compute models"

FORBIDDEN = (
    (PROCESSES, "candidate_service.retrieval", "gateway.settings"),
    (PROCESSES, "serving.ids", "training.data.movielens.ratings"),
    (FLOORS, "training.models.svd", "training.publish.gate"),
    (FLOORS, "training.errors", "training.progress"),
    (FLOORS, "training.experiments.studies", "training.cli.options"),
    (FLOORS, "training.jobs.evaluate", "training.cli.options"),
    (FLOORS, "training.data.movielens.titles", "training.release.roll_out"),
    (FLOORS, "training.progress", "training.lock"),
    (CLIENT, "movierec_client.errors", "serving.errors"),
    (ARRAYS, "serving.features.genre", "grpc"),
    (ARRAYS, "gateway.lists.why", "movierec.gateway.v1.movie_service_pb2"),
    (NO_GRPC, "serving.features.genre", "grpc"),
    (NO_GRPC, "serving.stages.reading", "serving.rpc.status"),
    (NO_TRAINING, "ranking_service.settings", "pandas"),
    (NO_STACK, "training.release.champion", "training.release.tracking"),
    (NO_MODELS, "gateway.lists.list_builder", "scipy"),
)
"""Contracts, and who imports what against each."""
CIRCLE = ("serving.rpc.tracing", "serving.rpc.spans")
STACK = ("training.release.tracking", "pandas")
"""Allowed by itself, and what makes the import of `training.release.tracking` forbidden."""
ELSEWHERE = {"movierec": ROOT / "protos/gen/movierec", "movierec_client": ROOT / "client/movierec_client"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and the contracts, to be changed at will."""
    return copy_to(tmp_path)


@pytest.fixture(scope="module")
def reasons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By name of a contract: how it is broken, with all imports planted at once."""
    folder = copy_to(tmp_path_factory.mktemp("planted"))
    for importer, imported in {*((one, other) for _, one, other in FORBIDDEN), CIRCLE, STACK}:
        path = folder / f"{importer.replace('.', '/')}.py"
        path.write_text(f"{path.read_text()}\nimport {imported}\n")
    code, _, broken = lint(folder)
    assert code == 1
    return broken


def copy_to(folder: Path) -> Path:
    for package in CONTRACTS["root_packages"]:
        source = ELSEWHERE.get(package, ROOT / package)
        shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> tuple[int, dict[str, str], dict[str, str]]:
    """Exit code; KEPT or BROKEN by contract; and by broken contract, how."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder)}  # before the installed packages
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    states, broken, name = {}, {}, ""
    for line in run.stdout.splitlines():
        contract, _, state = line.rpartition(" ")
        if state in {"KEPT", "BROKEN"}:
            states[contract] = state
        elif line in states:
            name = line
            broken[name] = ""
        elif name:
            broken[name] += f"{line}\n"
    return run.returncode, states, broken


def test_the_contracts_hold(copy: Path) -> None:
    names = [contract["name"] for contract in CONTRACTS["contracts"]]
    assert lint(copy) == (0, dict.fromkeys(names, "KEPT"), {})


def test_each_contract_can_be_broken(reasons: dict[str, str]) -> None:
    assert set(reasons) == {contract["name"] for contract in CONTRACTS["contracts"]}


@pytest.mark.parametrize(("broken", "importer", "imported"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(
    reasons: dict[str, str], broken: str, importer: str, imported: str
) -> None:
    assert f"{importer} -> {imported}" in reasons[broken]


def test_a_circle_breaks_its_contract(reasons: dict[str, str]) -> None:
    assert "No cycles are allowed in serving.rpc." in reasons[NO_CIRCLE]


def test_processes_load_neither_one_another_nor_what_is_turned_off() -> None:
    """What the contracts say of the source, said of a running interpreter."""
    servers = {"candidate_service", "gateway", "ranking_service", "similarity_service"}
    code = (
        "import sys, {0}.__main__; from serving.rpc.tracing_setup import traced\n"
        "with traced('test'): print(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    untraced = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    for server in sorted(servers):
        run = subprocess.run(
            [sys.executable, "-c", code.format(server)],
            cwd=ROOT,
            env=untraced,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        loaded = set(run.stdout.split())
        assert loaded & (servers | {"implicit", "mlflow", "opentelemetry", "training"}) == {server}
        assert ("catboost" in loaded) == (server == "ranking_service")
