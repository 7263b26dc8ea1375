"""A standalone Spark cluster on loopback: a master and workers, each a process of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyspark

from benchmarks.ports import free_port
from benchmarks.servers import Server, listening

_LOOPBACK: Final = "127.0.0.1"
_KERNELS: Final = frozenset({"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"})
_SPARK_CLASS: Final = Path(pyspark.__file__).parent / "bin" / "spark-class"


@dataclass(frozen=True)
class SparkCluster:
    """A cluster that runs."""

    workers: tuple[Server, ...]
    """Each starts executors, as processes below it."""
    environment: dict[str, str]
    """Variables by which a job's driver finds it."""


@contextmanager
def spark_cluster(
    folder: Path, *, workers: int = 2, worker_memory: str = "1g", executor_memory: str = "512m"
) -> Iterator[SparkCluster]:
    """Runs a cluster while the block runs, its workers with a core each.

    Args:
        folder: an empty one, for logs and for what executors keep on disk.
        workers: how many.
        worker_memory: what executors of a worker may take, as the JVM counts it.
        executor_memory: the heap of an executor; its Python process has its own memory beside it.

    Raises:
        ServerError: a process of the cluster does not come up.
    """
    port = free_port()
    master = f"spark://{_LOOPBACK}:{port}"
    with ExitStack() as stack:
        stack.enter_context(_process("master.Master", folder / "master.log", port))
        servers = [
            stack.enter_context(
                _process(
                    "worker.Worker",
                    folder / f"worker-{place}.log",
                    free_port(),
                    *("--cores", "1", "--memory", worker_memory, "--work-dir", str(folder / f"work-{place}")),
                    master,
                )
            )
            for place in range(workers)
        ]
        settings = {
            "spark.driver.host": _LOOPBACK,
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.ui.enabled": "false",
            "spark.executor.memory": executor_memory,
        }
        variables = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OPENBLAS_NUM_THREADS": "1",
            # Bits are compared with those of this process: executors use its kernels.
            **{name: value for name, value in os.environ.items() if name in _KERNELS},
        }
        settings |= {f"spark.executorEnv.{name}": value for name, value in variables.items()}
        options = " ".join(f"--conf {name}={value}" for name, value in settings.items())
        yield SparkCluster(
            tuple(servers),
            {
                "PYSPARK_SUBMIT_ARGS": f"--master {master} {options} pyspark-shell",
                "SPARK_LOCAL_IP": _LOOPBACK,
            },
        )


@contextmanager
def _process(main_class: str, log: Path, port: int, *arguments: str) -> Iterator[Server]:
    command = (
        *(str(_SPARK_CLASS), f"org.apache.spark.deploy.{main_class}"),
        *("--host", _LOOPBACK, "--port", str(port), "--webui-port", str(free_port())),
        *arguments,
    )
    with listening(command, log, port) as server:
        yield server
