"""What a job shows of itself: a bar per long step on a terminal, a line elsewhere; and what each took."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

STATUS: Final = Path("/proc/self/status")
CLEAR: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"  # proc_pid_clear_refs(5)


@dataclass(frozen=True)
class Step:
    """What a step took."""

    part: str
    """Of the job: what it was done for."""
    title: str
    seconds: float
    cpu_seconds: float
    """Of all threads: what it would take alone, on a machine that others use as well."""
    peak_bytes: int | None
    """The most memory that the process had while the step ran; None where the system does not tell."""


class Progress:
    """Shows steps on a console, where that is not quiet, and remembers what each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps: list[Step] = []
        """Those that are done, in order."""
        self._part = ""

    def enter(self, part: str, headline: str) -> None:
        """Begins a part of the job, with a line that says what it is for."""
        self._part = part
        self.console.print(headline)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Shows a step while the block runs; call what is yielded after each of `total` parts."""
        began, cpu_before = time.monotonic(), time.process_time()
        _forget_peak()
        with Bars(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bars:
            task = bars.add_task(title, total=total)
            yield lambda: bars.advance(task)
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_before
        self.steps.append(Step(self._part, title, seconds, cpu_seconds, _peak_bytes()))
        self.console.print(f"  {title}: {seconds:.1f} s")


def _forget_peak() -> None:
    """Lets the system measure the process's peak anew. Linux only."""
    try:
        CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:  # another system, or not allowed: peaks are those since the start, or unknown
        return


def _peak_bytes() -> int | None:
    try:
        status = STATUS.read_text(encoding="ascii")
    except OSError:
        return None
    kilobytes = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)  # some sandboxes leave it out
    return None if kilobytes is None else int(kilobytes[1]) * 1024
