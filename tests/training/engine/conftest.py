"""A real standalone cluster on loopback, one for all tests: a master, two workers, and a session."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pyspark
import pytest

from benchmarks.ports import free_port
from training.engine.spark import SparkEngine

LOOPBACK = "127.0.0.1"
START_SECONDS = 90


@dataclass
class Cluster:
    """Processes of Spark's own, and the engine that works on them."""

    master_port: int
    folder: Path
    environment: dict[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of the master."""
        return f"spark://{LOOPBACK}:{self.master_port}"

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a process of Spark's, with a log of its own."""
        command = Path(pyspark.__path__[0]) / "bin" / "spark-class"
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [command, *arguments],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_worker(self) -> None:
        """One more, of one core."""
        name = f"worker-{len(self.workers)}"
        self.workers.append(
            self.start(
                name,
                *("org.apache.spark.deploy.worker.Worker", "--host", LOOPBACK, "--cores", "1"),
                *("--memory", "1g", "--webui-port", "0", "--work-dir", str(self.folder / name), self.url),
            )
        )

    def kill_workers(self) -> None:
        """Those that are alive."""
        for worker in self.workers:
            if worker.poll() is None:
                kill(worker)


def kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, executors too."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java runtime: Spark is not tested")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SPARK_")},
        "SPARK_LOCAL_IP": LOOPBACK,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OPENBLAS_NUM_THREADS": "1",
    }
    found = Cluster(free_port(), tmp_path_factory.mktemp("spark"), environment)
    with ExitStack() as stack:
        master = found.start(
            "master",
            *("org.apache.spark.deploy.master.Master", "--host", LOOPBACK),
            *("--port", str(found.master_port), "--webui-port", str(ui := free_port())),
        )
        stack.callback(kill, master)
        stack.callback(found.kill_workers)
        found.start_worker()
        found.start_worker()
        end = time.monotonic() + START_SECONDS
        while _alive(ui) < 2:
            assert time.monotonic() < end, "the workers do not reach the master"
            time.sleep(0.2)
        yield found


def _alive(port: int) -> int:
    try:
        with urlopen(f"http://{LOOPBACK}:{port}/json/", timeout=5) as answer:
            text: str = answer.read().decode()
    except OSError:
        return 0
    return text.count('"ALIVE"') - 1  # the master is, too


@pytest.fixture(scope="session")
def spark(cluster: Cluster) -> Iterator[SparkEngine]:
    settings = {
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.ui.enabled": "false",
        "spark.executor.memory": "512m",
        "spark.executorEnv.PYTHONPATH": cluster.environment["PYTHONPATH"],
        "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    }
    arguments = " ".join(f"--conf {name}={value}" for name, value in settings.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"--master {cluster.url} {arguments} pyspark-shell")
        patch.setenv("SPARK_LOCAL_IP", LOOPBACK)
        with SparkEngine() as engine:
            yield engine
