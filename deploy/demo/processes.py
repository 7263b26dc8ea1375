"""The demo's child processes: started in waves, watched, stopped in the opposite order."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from deploy.demo.signals import StopRequest

STOP_SECONDS: Final = 15.0
"""How long a stop may take before what is left is killed: above drain delay and longest deadline."""
_LOOK_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.05
_TETHER: Final = Path(__file__).with_name("tether.py")


@dataclass(frozen=True)
class Process:
    """Something to run."""

    name: str
    """How the terminal and the log file call it."""
    command: tuple[str, ...]
    """Program and arguments, relative to the root of the repository."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that it gets on top of the demo's own."""

    @property
    def shell_line(self) -> str:
        """What to paste into a shell to run it again."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.settings.items()]
        return " ".join([*variables, shlex.join(self.command)])


@dataclass(frozen=True)
class Exit:
    """A process that has ended."""

    process: Process
    code: int
    """As `subprocess.Popen.returncode`: negative for a signal."""

    @property
    def cause(self) -> str:
        """How it ended, in words."""
        if self.code < 0:
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"exited with status {self.code}"


class Supervisor:
    """Owns the servers: whatever it started is gone after `stop`.

    Args:
        logs: directory that receives `<name>.log` of each process, afresh.
        stop_request: a second signal during `stop` kills at once.
    """

    def __init__(self, logs: Path, stop_request: StopRequest) -> None:
        self._logs = logs
        self._stop_request = stop_request
        self._waves: list[list[tuple[Process, subprocess.Popen[bytes]]]] = []
        self._reported: set[str] = set()

    def log_path(self, process: Process) -> Path:
        """Return the file that takes the output of a process."""
        return self._logs / f"{process.name}.log"

    @property
    def started(self) -> bool:
        """Whether there is anything to stop."""
        return bool(self._waves)

    def start(self, *processes: Process) -> None:
        """Start one wave; stopped together, before the waves that were started earlier."""
        self._logs.mkdir(parents=True, exist_ok=True)
        wave: list[tuple[Process, subprocess.Popen[bytes]]] = []
        self._waves.append(wave)
        for process in processes:
            with self.log_path(process).open("wb") as log:
                wave.append((process, spawn(process, log)))

    def new_exits(self) -> list[Exit]:
        """Return the processes that have ended by themselves, each of them once."""
        exits = [
            Exit(process, child.returncode)
            for process, child in self._children()
            if process.name not in self._reported and child.poll() is not None
        ]
        self._reported.update(exit_.process.name for exit_ in exits)
        return exits

    def stop(self, within_seconds: float = STOP_SECONDS) -> None:
        """End every process: SIGTERM wave by wave, the last first, then SIGKILL to what remains."""
        end = time.monotonic() + within_seconds

        def out_of_patience() -> bool:
            return self._stop_request.urgent or time.monotonic() > end

        for wave in reversed(self._waves):
            children = [child for _, child in wave]
            for child in children:
                child.terminate()
            _wait(children, out_of_patience)
        for _, child in self._children():
            _kill(child)
        self._waves.clear()

    def _children(self) -> list[tuple[Process, subprocess.Popen[bytes]]]:
        return [entry for wave in self._waves for entry in wave]


def watch(supervisor: Supervisor, stop_request: StopRequest, report: Callable[[Exit], None]) -> None:
    """Report every server that ends, until asked to stop; the others go on without it."""
    while not stop_request.wait(_LOOK_SECONDS):
        for exit_ in supervisor.new_exits():
            report(exit_)


def run_to_end(process: Process, stop_request: StopRequest) -> int:
    """Run a process on the demo's own terminal and return its code; a request to stop ends it."""
    child = spawn(process, None)
    try:
        _wait([child], lambda: stop_request.made)
        if child.poll() is None:
            end = time.monotonic() + STOP_SECONDS
            child.terminate()
            _wait([child], lambda: stop_request.urgent or time.monotonic() > end)
    finally:
        _kill(child)
    return child.returncode


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def spawn(process: Process, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """Start a process that ends when this one does; without `output`, on the same terminal."""
    return subprocess.Popen(
        (sys.executable, "-IS", str(_TETHER), str(os.getpid()), *process.command),
        env={**os.environ, **process.settings},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches the demo only, which then stops all in order
    )


def _wait(children: list[subprocess.Popen[bytes]], give_up: Callable[[], bool]) -> None:
    while any(child.poll() is None for child in children) and not give_up():
        time.sleep(_POLL_SECONDS)


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # it leads its session: workers of its own go too
        child.wait()
