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

LAYERS = "processes stand beside each other, on the kit, on the API"
ARRAYS = "domain code knows arrays, not messages"
NO_GRPC = "models and messages know no gRPC"
NO_TRAINING = "the training stack stays in training"
NO_STACK = "what runs beside servers needs no training stack"
NO_MODELS = "the gateway composes and does not compute models"
CLIENT = "the client stands on the generated code alone"
NAMES = (LAYERS, CLIENT, ARRAYS, NO_GRPC, NO_TRAINING, NO_STACK, NO_MODELS)
ELSEWHERE = {"movierec": ROOT / "protos/gen/movierec", "movierec_client": ROOT / "client/movierec_client"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and the contracts, to be changed at will."""
    for package in CONTRACTS["root_packages"]:
        source = ELSEWHERE.get(package, ROOT / package)
        shutil.copytree(source, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, dict[str, str]]:
    """Exit code, and KEPT or BROKEN by contract."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder)}  # before the installed packages
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    states = {}
    for line in run.stdout.splitlines():
        name, _, state = line.rpartition(" ")
        if state in {"KEPT", "BROKEN"}:
            states[name] = state
    return run.returncode, states


def add_import(path: Path, name: str) -> None:
    path.write_text(f"{path.read_text()}\nimport {name}\n")


def test_there_is_a_contract_of_each_kind() -> None:
    assert {contract["name"] for contract in CONTRACTS["contracts"]} == set(NAMES)


def test_the_contracts_hold(copy: Path) -> None:
    assert lint(copy) == (0, dict.fromkeys(NAMES, "KEPT"))


@pytest.mark.parametrize(
    ("planted", "broken"),
    [
        ([("candidate_service/retrieval.py", "gateway.settings")], {LAYERS}),
        ([("serving/ids.py", "training.movielens.ratings")], {LAYERS, NO_TRAINING}),
        ([("serving/features.py", "grpc")], {ARRAYS, NO_GRPC}),
        ([("gateway/lists/why.py", "movierec.gateway.v1.movie_service_pb2")], {ARRAYS}),
        ([("serving/stages/reading.py", "serving.rpc.status")], {NO_GRPC}),
        ([("training/champion.py", "training.tracking"), ("training/tracking.py", "pandas")], {NO_STACK}),
        (
            [("ranking_service/settings.py", "pandas"), ("gateway/lists/list_builder.py", "scipy")],
            {NO_TRAINING, NO_MODELS},
        ),
        ([("movierec_client/errors.py", "serving.errors")], {CLIENT}),
    ],
    ids=[
        "a process of another",
        "the kit of a process",
        "domain code of gRPC",
        "domain code of messages",
        "messages of gRPC, by a detour",
        "sync of training's stack, by a detour",
        "servers of training's stack",
        "the client of the kit",
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    copy: Path, planted: list[tuple[str, str]], broken: set[str]
) -> None:
    for path, name in planted:
        add_import(copy / path, name)
    code, states = lint(copy)
    assert code == 1
    assert {name for name, state in states.items() if state == "BROKEN"} >= broken
    assert len(states) == len(CONTRACTS["contracts"])


def test_processes_start_without_one_another() -> None:
    """What the contracts say of the source, said of a running interpreter: no server loads another."""
    servers = {"candidate_service", "gateway", "ranking_service", "similarity_service"}
    code = "import sys, {0}.servicer; print(*{{name.partition('.')[0] for name in sys.modules}})"
    for server in sorted(servers):
        run = subprocess.run(
            [sys.executable, "-c", code.format(server)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        loaded = set(run.stdout.split())
        assert loaded & (servers | {"implicit", "mlflow", "training"}) == {server}
        assert ("catboost" in loaded) == (server == "ranking_service")
