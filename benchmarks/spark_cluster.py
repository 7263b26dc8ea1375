"""A standalone Spark cluster on loopback: a master and workers, each a process of its own."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyspark

from benchmarks.ports import free_port
from benchmarks.servers import Server, listening, own_kernels

_LOOPBACK: Final = "127.0.0.1"
_HEAP: Final = "1g"
"""Of an executor; its Python process has memory of its own beside it."""
_SPARK_CLASS: Final = Path(pyspark.__file__).parent / "bin" / "spark-class"


@dataclass(frozen=True)
class SparkCluster:
    """A cluster that runs."""

    workers: tuple[Server, ...]
    """Each starts executors, as processes below it."""
    environment: dict[str, str]
    """Variables by which a job's driver finds it."""


@contextmanager
def spark_cluster(folder: Path, *, driver_memory: str = "1g") -> Iterator[SparkCluster]:
    """Runs a cluster while the block runs: two workers with a core and 1 GiB for an executor's heap each.

    Args:
        folder: an empty one, for logs and for what executors keep on disk.
        driver_memory: the heap of the job's driver, through which all ratings pass.

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
                    *("--cores", "1", "--memory", _HEAP, "--work-dir", str(folder / f"work-{place}")),
                    master,
                )
            )
            for place in range(2)
        ]
        settings = {
            "spark.driver.host": _LOOPBACK,
            "spark.driver.memory": driver_memory,
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.ui.enabled": "false",
            "spark.executor.memory": _HEAP,
        }
        variables = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OPENBLAS_NUM_THREADS": "1",
            **own_kernels(),
        }
        settings |= {f"spark.executorEnv.{name}": value for name, value in variables.items()}
        options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
        yield SparkCluster(
            tuple(servers),
            {
                "PYSPARK_SUBMIT_ARGS": shlex.join(["--master", master, *options, "pyspark-shell"]),
                "SPARK_LOCAL_IP": _LOOPBACK,
            },
        )


def _process(main_class: str, log: Path, port: int, *arguments: str) -> AbstractContextManager[Server]:
    command = (
        *(str(_SPARK_CLASS), f"org.apache.spark.deploy.{main_class}"),
        *("--host", _LOOPBACK, "--port", str(port), "--webui-port", str(free_port())),
        *arguments,
    )
    return listening(command, log, port)
