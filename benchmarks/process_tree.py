"""Memory and processor time of a process and all below it, from /proc. Linux only."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def tree_bytes(pid: int) -> int:
    """Resident memory; pages that processes share count in each."""
    return sum(int(text.split()[1]) for text in _tree(pid, "statm").values()) * _PAGE_BYTES


def tree_seconds(pid: int, *, ended: bool = False) -> dict[int, float]:
    """Processor time by process id; of children that have ended and were waited for, too, if `ended`."""
    fields = {one: text.rpartition(")")[2].split() for one, text in _tree(pid, "stat").items()}
    counted = slice(11, 15 if ended else 13)  # utime, stime, cutime, cstime: proc(5)
    return {one: sum(map(int, values[counted])) / _TICKS for one, values in fields.items()}


def _tree(pid: int, file: str) -> dict[int, str]:
    """What a file of /proc says of each."""
    found: dict[int, str] = {}
    with suppress(OSError):  # one that has ended meanwhile
        found[pid] = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii", errors="replace")
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that has
                for child in (task / "children").read_text(encoding="ascii").split():
                    found |= _tree(int(child), file)
    return found
