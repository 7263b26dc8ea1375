"""What holds of the Dockerfiles: read as they lie here, and tried where an engine has the images."""

import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import SETTINGS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/docker"
JOBS = ("sync", "training", "training-spark")
IMAGES = (*SETTINGS, *JOBS, "envoy")


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile, its continuations joined."""

    name: str
    text: str


@dataclass(frozen=True)
class Stage:
    """What lies between two FROM."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def texts(self, name: str) -> list[str]:
        """What follows each instruction of a name."""
        return [one.text for one in self.instructions if one.name == name]


def stages(path: Path) -> list[Stage]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    instructions = [Instruction(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]
    found: list[Stage] = []
    for one in instructions:
        if one.name == "FROM":
            base, _, name = one.text.partition(" AS ")
            found.append(Stage(name, base, ()))
        elif found:
            last = found[-1]
            found[-1] = Stage(last.name, last.base, (*last.instructions, one))
    return found


MAIN = stages(FOLDER / "Dockerfile")
BY_NAME = {stage.name: stage for stage in MAIN}
BOTH = (FOLDER / "Dockerfile", FOLDER / "envoy.Dockerfile")


@pytest.mark.parametrize("path", BOTH, ids=lambda path: path.name)
def test_older_engines_can_build_it(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^# syntax=|--mount|--chmod|--link|--parents|<<", text, re.MULTILINE)


@pytest.mark.row(59)
@pytest.mark.parametrize("path", BOTH, ids=lambda path: path.name)
def test_bases_are_arguments_without_an_invented_digest(path: Path) -> None:
    assert "sha256:" not in re.sub(r"#.*", "", path.read_text())
    outside = [stage.base for stage in stages(path) if stage.base not in BY_NAME]
    assert set(outside) <= {"${BASE_IMAGE}", "${ENVOY_IMAGE}", "${PROCESS}"}


def test_every_process_has_a_stage_and_an_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    others = {"tracing", "spark"}  # which go with any of them, or with training
    assert {*SETTINGS, *JOBS} == set(extras) - others | {"training-spark"}
    assert {stage.name for stage in MAIN if stage.base == "job"} == {*SETTINGS, *JOBS}
    assert MAIN[-1].base == "${PROCESS}"


@pytest.mark.parametrize("process", [*SETTINGS, "sync", "training"])
def test_signals_reach_python(process: str) -> None:
    (entry,) = BY_NAME[process].texts("ENTRYPOINT")
    python, option, module = json.loads(entry)
    assert (python, option) == ("python", "-m")
    assert (ROOT / module.replace(".", "/")).is_dir() or (ROOT / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("process", SETTINGS)
def test_a_server_says_where_it_listens_and_how_to_ask_it(process: str) -> None:
    stage, settings = BY_NAME[process], SETTINGS[process]
    variables = dict(one.split("=") for text in stage.texts("ENV") for one in text.split())
    port, metrics_port = (settings.model_fields[name].default for name in ("port", "metrics_port"))
    assert variables == {
        settings.variable("bundle_root"): "/var/lib/movierec",
        settings.variable("host"): "0.0.0.0",  # noqa: S104  # of the container
        settings.variable("port"): str(port),
        settings.variable("metrics_port"): str(metrics_port),
    }
    assert stage.texts("EXPOSE") == [f"{port} {metrics_port}"]
    (check,) = stage.texts("HEALTHCHECK")
    politely = ["nice", "-n", "19"]  # a probe starts an interpreter beside the server that it asks
    asks = [*politely, "python", "-m", "serving.rpc.health_check", process]
    assert json.loads(check[check.index("[") :]) == asks


@pytest.mark.row(60)
@pytest.mark.parametrize("path", BOTH, ids=lambda path: path.name)
def test_nothing_runs_as_root(path: Path) -> None:
    users = [text for stage in stages(path) for text in stage.texts("USER")]
    assert users == ["10001:10001"]


@pytest.mark.row(59)
def test_packages_come_with_hashes() -> None:
    install = re.compile(r"(?:uv|python -m) pip install (.*?)(?:&&|;|$)")
    installs = [
        found
        for name in ("build", "tools")
        for found in install.findall(" ".join(BY_NAME[name].texts("RUN")))
    ]
    assert len(installs) == 4
    ours = [one for one in installs if "--require-hashes" not in one]
    assert len(ours) == 1  # the project itself, whose build takes its packages by hash as well
    assert "--no-deps" in ours[0]
    assert "--build-constraints constraints.txt" in ours[0]


def test_what_is_not_needed_stays_outside() -> None:
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert first == "*"
    copied = {
        word.split("/")[0]
        for path in BOTH
        for stage in stages(path)
        for text in stage.texts("COPY")
        if "--from" not in text
        for word in text.split()[:-1]
    }
    allowed = {line[1:].split("/")[0] for line in rest if line.startswith("!")}
    assert copied == allowed


# With an engine

INSIDE = """
import importlib.metadata, importlib.util, json
sbom = json.load(open("/opt/movierec/sbom.cdx.json"))
assert sbom["bomFormat"] == "CycloneDX"
listed = [component["name"].lower() for component in sbom["components"]]
installed = [distribution.name.lower() for distribution in importlib.metadata.distributions()]
installers = [name for name in ("pip", "setuptools", "uv", "wheel") if importlib.util.find_spec(name)]
print(json.dumps([listed, installed, installers]))
"""


def docker(*arguments: str) -> str:
    binary = shutil.which("docker")
    assert binary, "docker is not installed"
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built() -> dict[str, dict[str, Any]]:
    """What the engine says of the images that `make images` made."""
    return {name: json.loads(docker("image", "inspect", f"movierec-{name}:dev"))[0] for name in IMAGES}


@pytest.mark.containers
@pytest.mark.e2e
def test_images_run_as_nobody_in_particular(built: dict[str, dict[str, Any]]) -> None:
    assert {image["Config"]["User"] for image in built.values()} == {"10001:10001"}
    titles = {image["Config"]["Labels"]["org.opencontainers.image.title"] for image in built.values()}
    assert titles == {f"movierec-{name}" for name in IMAGES}


@pytest.mark.containers
@pytest.mark.e2e
@pytest.mark.parametrize("process", [*SETTINGS, *JOBS])
def test_an_image_lists_what_it_holds_and_has_no_installer(
    built: dict[str, dict[str, Any]], process: str
) -> None:
    options = ("--rm", "--read-only", "--network=none", "--entrypoint=python", f"movierec-{process}:dev")
    listed, installed, installers = json.loads(docker("run", *options, "-c", INSIDE))
    assert installers == []
    assert set(installed) <= {*listed, "movierec"}
