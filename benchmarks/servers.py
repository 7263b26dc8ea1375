"""The project's own servers as processes, and the processor time that they use. Linux only."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.bundle.factors import read_ratings
from serving.bundle.store import BundleStore

_STAGES: Final = ("candidate", "ranking")
_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.05

# Some machines set these for all processes: they make current numpy choose slower kernels. Each of them
# alone does harm too, so both go.
_SLOW_BLAS: Final = frozenset({"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"})

# Images bring the bytecode of all that a server imports. Without it a start takes three times the time.
_NO_BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"


class ServerError(Exception):
    """A server that does not come up. The message shows the end of its log."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    pid: int
    target: str
    """Where a client finds it."""

    def cpu_seconds(self) -> float:
        """Processor time used so far, all threads, those that have ended too."""
        # What clock_getcpuclockid(3) gives: /proc counts in steps of 10 ms, too coarse for a short load.
        return time.clock_gettime(~self.pid << 3 | 2)

    def memory_mib(self, *, peak: bool = False) -> float:
        """Resident memory now, or the most that it was."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmHWM" if peak else "VmRSS"].split()[0]) / 1_024  # proc(5) counts KiB


def own_kernels() -> dict[str, str]:
    """Variables that make other processes round as this one does: their answers are compared with its own."""
    return {name: value for name, value in os.environ.items() if name in _SLOW_BLAS}


def settings_of(server: str, bundle_root: Path, **more: str) -> dict[str, str]:
    """Environment variables of a server on free ports.

    Args:
        server: candidate, ranking, similarity or gateway.
        bundle_root: where its bundles lie.
        more: further settings by name.
    """
    settings = {
        "bundle_root": str(bundle_root),
        "port": "0",
        "metrics_port": "0",
        "drain_delay_seconds": "0",
        **more,
    }
    return {f"MOVIEREC_{server}_{name}".upper(): value for name, value in settings.items()}


def users_of(bundle_root: Path) -> list[int]:
    """All that the current bundle knows."""
    store = BundleStore(bundle_root)
    users: list[int] = read_ratings(store.folder(store.pointer().bundle_id, "candidate")).users.ids.tolist()
    return users


@contextmanager
def serving(module: str, log: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """Runs `python -m module` on a free port while the block runs.

    Args:
        module: the process.
        log: where its output goes.
        settings: its environment variables; those of this process that set up movierec are left out.

    Raises:
        ServerError: it ended, or did not serve in time.
    """
    with running((sys.executable, "-m", module), log, settings) as process:
        yield Server(process.pid, f"127.0.0.1:{port_once_serving(process, log)}")


@contextmanager
def listening(command: Sequence[str], log: Path, port: int) -> Iterator[Server]:
    """Runs a server that listens on a port of 127.0.0.1 as soon as it can answer, while the block runs.

    Raises:
        ServerError: it ended, or did not listen in time.
    """
    with running(command, log, {}) as process:
        _wait_until_listening(process, log, port)
        yield Server(process.pid, f"127.0.0.1:{port}")


@contextmanager
def running(
    command: Sequence[str], log: Path, settings: Mapping[str, str], *, piped: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process, its arithmetic on one thread, while the block runs.

    Args:
        command: program and arguments.
        log: where its output goes.
        settings: its environment variables; those of this process that set up movierec are left out.
        piped: whether its standard input and output are pipes, and its errors alone go to the log.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MOVIEREC_") and name not in {*_SLOW_BLAS, _NO_BYTECODE}
    }
    environment = {**kept, "OMP_NUM_THREADS": "1", **settings, "PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # a server of ours
            command,
            env=environment,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
        )
    with process:  # which closes its pipes
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def serving_stages(stack: ExitStack, bundle_root: Path, logs: Path) -> list[Server]:
    """Runs the candidate and the ranking service until `stack` closes."""
    return [
        stack.enter_context(serving(f"{name}_service", logs / f"{name}.log", settings_of(name, bundle_root)))
        for name in _STAGES
    ]


def targets_of(stages: Sequence[Server]) -> dict[str, str]:
    """The gateway's settings that lead it to these stages."""
    return {f"{name}_target": stage.target for name, stage in zip(_STAGES, stages, strict=True)}


def _wait_until_listening(process: subprocess.Popen[bytes], log: Path, port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(_LOOK_SECONDS)
    raise ServerError(f"{log.stem} does not listen: {log.read_text(encoding='utf-8')[-2000:]}")


def port_once_serving(process: subprocess.Popen[bytes], log: Path) -> int:
    """Waits until a server says in its log that it serves; gives the port.

    Raises:
        ServerError: it ended, or did not serve in time.
    """
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        text = log.read_text(encoding="utf-8")
        lines = text[: text.rfind("\n") + 1].splitlines()  # the whole ones
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        events = {line["event"]: line for line in logged}
        if "serving" in events:
            return int(events["listening"]["port"])
        time.sleep(_LOOK_SECONDS)
    raise ServerError(f"{log.stem} does not serve: {log.read_text(encoding='utf-8')[-2000:]}")
