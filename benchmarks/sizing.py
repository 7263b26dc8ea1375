"""What each server needs for a bundle: `python -m benchmarks.sizing --help`.

Real processes and gRPC: all four servers with one replica each, no Envoy. Where the pointer names a previous
bundle, ranking and the gateway hold both, as in production.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
import uvloop
from rich.table import Table

from benchmarks.batching import load
from benchmarks.servers import Server, serving, settings_of, users_of
from serving.bundle.store import BundleStore
from training.cli.terminal import Terminal

_STAGES: Final = ("candidate", "ranking", "similarity")
_IN_FLIGHT: Final = 16
_MOST_USERS: Final = 5_000


@dataclass(frozen=True)
class Need:
    """What one server took."""

    folder_mib: float
    """Its part of a bundle on disk."""
    start_seconds: float
    """From the start of the process until it serves."""
    idle_mib: float
    """Resident memory once it serves."""
    peak_mib: float
    """The most until the end of the load."""
    cpu_ms: float
    """Processor time for one answer of the gateway."""


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of published bundles.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=3_600, help="Of load.")] = 20.0,
) -> None:
    """Starts the servers, asks them for personal lists, and prints what each of them took."""
    store = BundleStore(bundle_root)
    bundle = store.path(store.pointer().bundle_id)
    users = users_of(bundle_root)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory()))
        servers: dict[str, Server] = {}
        start_seconds: dict[str, float] = {}
        for name in (*_STAGES, "gateway"):
            targets = {f"{stage}_target": servers[stage].target for stage in servers}
            settings = settings_of(name, bundle_root, **(targets if name == "gateway" else {}))
            module = name if name == "gateway" else f"{name}_service"
            began = time.perf_counter()
            servers[name] = stack.enter_context(serving(module, logs / f"{name}.log", settings))
            start_seconds[name] = time.perf_counter() - began
        idle = {name: server.memory_mib() for name, server in servers.items()}
        before = {name: server.cpu_seconds() for name, server in servers.items()}
        target = servers["gateway"].target
        answers = uvloop.run(load(target, users[:_MOST_USERS], in_flight=_IN_FLIGHT, seconds=seconds))
        needs = {
            name: Need(
                folder_mib=sum(file.stat().st_size for file in (bundle / name).iterdir()) / 2**20,
                start_seconds=start_seconds[name],
                idle_mib=idle[name],
                peak_mib=server.memory_mib(peak=True),
                cpu_ms=(server.cpu_seconds() - before[name]) / len(answers) * 1_000,
            )
            for name, server in servers.items()
        }
    degraded = sum(degraded for _, degraded in answers)
    Terminal().print(_table(needs, f"{len(users):,} users; {len(answers):,} answers, {degraded} degraded"))


def _table(needs: Mapping[str, Need], title: str) -> Table:
    table = Table(title=title)
    for heading in ("server", "bundle, MiB", "start, s", "idle, MiB", "peak, MiB", "CPU ms/answer"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    for name, need in needs.items():
        table.add_row(
            name,
            f"{need.folder_mib:.1f}",
            f"{need.start_seconds:.1f}",
            f"{need.idle_mib:.0f}",
            f"{need.peak_mib:.0f}",
            f"{need.cpu_ms:.2f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
