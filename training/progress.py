"""What a job shows of itself: a bar per long step on a terminal, a line per step elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """Shows steps on a console.

    Args:
        console: where; a quiet one shows nothing.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Shows a step while the block runs; call what is yielded after each of `total` parts."""
        began = time.monotonic()
        with Bars(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bars:
            task = bars.add_task(title, total=total)
            yield lambda: bars.advance(task)
        self.console.print(f"  {title}: {time.monotonic() - began:.1f} s", highlight=False)
