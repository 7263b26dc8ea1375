"""The demo as a user runs it, in a folder of its own: begun, trained, then reused, harmed and stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.bundle.store import BundleStore
from tests.conftest import FEW_USERS, write_first_users
from tests.deploy.edge import ROOT
from tests.e2e.rest import Rest
from tests.e2e.system import eventually, port_settings, python_path
from training.data.generated import write_sample

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]

DEMO = (sys.executable, "-m", "deploy.demo")
QUICK = (
    *("--ranker-loss", "Logloss", "--ranker-iterations", "20", "--ranker-depth", "4"),
    *("--negatives", "20", "--n-candidates", "100"),
)
"""Options of the training: what it does otherwise, tests of the training say."""
CLOSED = "http://127.0.0.1:1"
QUALITY_ROW = re.compile(r"^│ (popularity|SVD|ALS|two-stage) +│ +(\d\.\d{3}) │", re.MULTILINE)


@dataclass(frozen=True)
class Home:
    """A folder like a fresh clone: no bundles, no way to the network."""

    folder: Path
    settings: dict[str, str]
    """Environment variables: ports, and where there are data."""

    @property
    def environment(self) -> dict[str, str]:
        """Of the demo: none of this machine's own settings."""
        own = ("MOVIEREC_", "MLFLOW_", "PYTHONIOENCODING")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
        # What goes through this proxy fails at once. The demo's own servers must be reached without it.
        offline = {f"{kind}_proxy": CLOSED for kind in ("http", "https", "HTTP", "HTTPS")} | {"no_proxy": ""}
        return {**kept, **offline, **self.settings, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}

    @property
    def url(self) -> str:
        """Where the demo serves."""
        return f"http://127.0.0.1:{self.settings['MOVIEREC_ENVOY_PORT']}"

    def run(self, *options: str, **settings: str) -> str:
        """Runs the demo to its end, and gives what it printed."""
        done = subprocess.run(
            [*DEMO, "--once", *QUICK, *options],
            cwd=self.folder,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def processes(self) -> dict[int, str]:
        """Command lines of what runs in this folder, by pid."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if process.joinpath("cwd").readlink() == self.folder:
                    found[int(process.name)] = process.joinpath("cmdline").read_text().replace("\0", " ")
            except OSError:  # ended meanwhile, or somebody else's
                continue
        return found

    def pid_of(self, module: str) -> int:
        """The one process that runs a module."""
        (pid,) = (pid for pid, command in self.processes().items() if f"-m {module} " in command)
        return pid


def quality_rows(output: str) -> list[tuple[str, str]]:
    """Models and their nDCG@10, from the first table that is printed."""
    return QUALITY_ROW.findall(output.partition("by segment")[0])


@pytest.fixture(scope="module")
def home(few_generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("home").resolve()
    shutil.copytree(ROOT / "deploy/envoy", folder / "deploy/envoy")
    return Home(folder, {**port_settings(), "MOVIEREC_DATA_DIR": str(few_generated)})


@contextmanager
def serving_demo(home: Home, output: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The demo, left to serve while the block runs."""
    with (
        output.open("wb") as log,
        subprocess.Popen(
            [*DEMO, *options], cwd=home.folder, env=home.environment, stdout=log, stderr=log
        ) as demo,
    ):
        try:
            yield demo
        finally:
            demo.kill()  # takes what it started along


def test_from_nothing_it_trains_on_a_generated_sample_until_interrupted(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy/envoy", tmp_path / "deploy/envoy")
    fresh = Home(tmp_path.resolve(), port_settings())
    output = tmp_path / "output"
    with serving_demo(fresh, output) as demo:
        eventually(lambda: "Data set: generated-sample, generated in " in output.read_text())
        demo.send_signal(signal.SIGINT)
        demo.wait()
    assert fresh.processes() == {}


def test_it_trains_serves_names_the_dead_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with serving_demo(home, output, *QUICK) as demo:

        def says(line: str) -> bool:
            assert demo.poll() is None, output.read_text()
            return line in output.read_text()

        eventually(lambda: says("Serving REST and gRPC at "))
        tour = output.read_text()
        quality = {model: float(ndcg) for model, ndcg in quality_rows(tour)}
        assert quality.keys() == {"popularity", "SVD", "ALS", "two-stage"}
        assert quality["two-stage"] > quality["popularity"] > 0
        assert BundleStore(home.folder / "artifacts").pointer().bundle_id in tour
        assert f"$ curl -s '{home.url}/api/movies/personal?user_id=1" in tour
        assert "WRONG" not in tour
        assert "Every answer of the tour was as it should be." in tour

        os.kill(home.pid_of("ranking_service"), signal.SIGKILL)
        eventually(lambda: says("ranking was killed by SIGKILL. To start it again:\n  MOVIEREC_RANKING_"))
        command = output.read_text().rpartition("To start it again:\n  ")[2].splitlines()[0]
        with Rest.at(home.url) as rest:
            assert rest.personal(("user_id", 1)).model == "als_only"
            with restarted(home, command):
                eventually(lambda: rest.personal(("user_id", 1)).model == "two_stage")

        demo.send_signal(signal.SIGINT)
        demo.wait()
    assert demo.returncode == 0
    assert home.processes() == {}

    with serving_demo(home, tmp_path / "again", *QUICK) as demo:
        eventually(lambda: "2/4 Starting" in (tmp_path / "again").read_text())
        demo.send_signal(signal.SIGINT)
        demo.wait()
    again = (tmp_path / "again").read_text()
    assert f"Reusing bundle {BundleStore(home.folder / 'artifacts').pointer().bundle_id} " in again
    assert quality_rows(again) == quality_rows(tour)
    assert "Training what is served" not in again
    assert home.processes() == {}


@contextmanager
def restarted(home: Home, command: str) -> Iterator[None]:
    """Paste a command into a shell that knows nothing of the demo's settings, while the block runs."""
    plain = {k: v for k, v in home.environment.items() if not k.startswith("MOVIEREC_")}
    shell = ("/bin/sh", "-c", command)
    with subprocess.Popen(shell, cwd=home.folder, env=plain, start_new_session=True) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.long
def test_each_run_shows_the_bundle_that_was_just_published(home: Home, tmp_path: Path) -> None:
    store = BundleStore(home.folder / "artifacts")
    home.run()
    before = store.pointer()
    # Long ago: training must not wait, as if for servers that still follow.
    aged = before.model_copy(update={"published_at": 0.0})
    (store.root / "current").write_text(aged.model_dump_json())
    other_movies, few = tmp_path / "other", tmp_path / "few"  # with the same ids
    for folder in (other_movies, few):
        folder.mkdir()
    write_sample(other_movies, seed=1)
    write_first_users(FEW_USERS, other_movies, few)
    output = home.run("--seed", "1", MOVIEREC_DATA_DIR=str(few))
    pointer = store.pointer()
    assert pointer.previous == before.bundle_id
    assert f"all serve bundle {pointer.bundle_id}\n" in output
    assert "Every answer of the tour was as it should be." in output
    for server in ("candidate", "similarity"):
        log = (store.root / "logs" / f"{server}.log").read_text()
        held = [line for line in map(json.loads, log.splitlines()) if line["event"] == "bundles held"]
        assert [line["current"] for line in held] == [pointer.bundle_id]
