"""Where the time goes: `python -m benchmarks.serving.profile --help`, or `make profile`.

A flame graph of each of the product's servers, and of the numpy monolith, while lists are asked for. py-spy
looks into running processes: some systems allow that to root alone (`kernel.yama.ptrace_scope`).

py-spy samples by the clock: a thread that waits for a processor counts as one that runs. With fewer
processors than busy threads, the function that sends a call, which wakes another server, looks several times
as expensive as it is.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from rich.progress import track

from benchmarks.servers import Server
from benchmarks.serving.bundles import BundleRoot, trained_bundles
from benchmarks.serving.load import Connect, load
from benchmarks.serving.measurements import LOOK_UPS, SIMILAR, look_up_request
from benchmarks.serving.systems import NUMPY, OURS, Running, rpc, start
from training.cli.terminal import Terminal

_LOAD_SECONDS: Final = 1.0


def main(
    *,
    bundle_root: BundleRoot = None,
    seconds: Annotated[int, typer.Option(min=1, help="Of each recording.")] = 10,
    in_flight: Annotated[str, typer.Option(help="Requests to keep in flight, with commas.")] = "1,32",
    native: Annotated[bool, typer.Option(help="Also look into compiled libraries; slower.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("build/profile"),
) -> None:
    """Loads the servers, and records what they do."""
    console = Terminal()
    output.mkdir(parents=True, exist_ok=True)
    options = ("--native",) if native else ()
    with (
        TemporaryDirectory() as logs,
        start(bundle_root or trained_bundles(), Path(logs), (OURS, NUMPY)) as up,
    ):
        turns = [(int(many), *load_) for many in in_flight.split(",") for load_ in _loads(up)]
        for many, connect, requests, processes in track(turns, "Recording", console=console, transient=True):
            files = {name: output / f"{name}-{many}.svg" for name in processes}
            recorders = [
                _record(processes[name], file, seconds=seconds, options=options)
                for name, file in files.items()
            ]
            while any(recorder.poll() is None for recorder in recorders):
                load(connect, requests, in_flight=many, seconds=_LOAD_SECONDS)
            for recorder, file in zip(recorders, files.values(), strict=True):
                _, errors = recorder.communicate()
                if recorder.returncode != 0:
                    console.print(f"{file.name}: {errors.decode(errors='replace').strip()}", style="red")
                    raise typer.Exit(1)
    console.print(f"Written: {output}/")


def _loads(up: Running) -> list[tuple[Connect, Sequence[bytes], Mapping[str, Server]]]:
    """Whom to ask for what, and what works on it."""
    ours, monolith = up.systems[OURS], up.systems[NUMPY]
    similar = [look_up_request(SIMILAR, movie_id) for movie_id in up.movies]
    return [
        (ours.connect, [ours.request(user) for user in up.users], ours.processes),
        (rpc(up.product, LOOK_UPS[SIMILAR]), similar, {"similarity": up.product["similarity"]}),
        (monolith.connect, [monolith.request(user) for user in up.users], monolith.processes),
    ]


def _record(server: Server, file: Path, *, seconds: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("py-spy")
    command = (program, "record", "--pid", str(server.pid), "--duration", str(seconds), "--output", file)
    return subprocess.Popen(  # noqa: S603  # of this environment
        (*command, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


if __name__ == "__main__":
    typer.run(main)
