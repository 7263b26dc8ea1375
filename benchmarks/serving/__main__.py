"""What an answer costs: `python -m benchmarks.serving --help`, or `make bench`.

Real processes, all on this machine: the product's servers, with Envoy before them for REST; three servers
that pass the same messages on and do nothing else; the model work in one process, without servers; and two
monoliths on FastAPI. All must give the same users the same lists before anything is measured. Then they are
loaded in turn, each for a few seconds at a time.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.progress import track

from benchmarks.servers import ServerError
from benchmarks.serving import report
from benchmarks.serving.bundles import BundleRoot, trained_bundles
from benchmarks.serving.measurements import measure
from benchmarks.serving.systems import TITLES, DisagreementError, start
from serving.bundle.store import BundleError
from training.cli.terminal import Terminal


def main(
    *,
    bundle_root: BundleRoot = None,
    seconds: Annotated[float, typer.Option(min=0.05, help="Of load per turn.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often every system takes its turn.")] = 4,
    in_flight: Annotated[str, typer.Option(help="Requests to keep in flight, with commas.")] = "1,8,32,64",
    systems: Annotated[str, typer.Option(help=f"Of {', '.join(TITLES)}.")] = ",".join(TITLES),
    output: Annotated[Path, typer.Option(help="File for the results; the picture lies beside it.")] = Path(
        "build/bench.json"
    ),
) -> None:
    """Measures the systems, and prints what their answers cost and what that comes to."""
    console = Terminal()
    names = systems.split(",")
    if unknown := set(names) - TITLES.keys():
        raise typer.BadParameter(f"there is no system {', '.join(unknown)}", param_hint="--systems")
    root = bundle_root or trained_bundles()
    try:
        with TemporaryDirectory() as logs, start(root, Path(logs), names) as up:
            results = measure(
                up,
                names=names,
                in_flight=[int(many) for many in in_flight.split(",")],
                seconds=seconds,
                rounds=rounds,
                progress=partial(track, description="Measuring", console=console, transient=True),
            )
    except (BundleError, DisagreementError, ServerError) as error:
        console.print(str(error), style="red")
        raise typer.Exit(1) from error
    report.show(results, console)
    report.write(results, output)
    console.print(f"Written: {output}, {output.with_suffix('.svg')}")


if __name__ == "__main__":
    typer.run(main)
