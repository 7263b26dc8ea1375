"""Time and memory of `train-ranker` by size of the data: `python -m benchmarks.training_scale --help`.

Each size is trained on by a process of its own, which is stopped when it takes more memory than it may. What
its steps took it writes into the bundle's `build.json`. With `--spark` each size is trained on twice, the
second time with ALS on a Spark cluster of two worker processes on this machine. Linux only.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import matplotlib as mpl
import numpy as np
import typer
from matplotlib.figure import Figure

from benchmarks.long_tail import write_long_tail
from benchmarks.process_tree import tree_bytes, tree_seconds
from benchmarks.spark_cluster import SparkCluster, spark_cluster
from serving.bundle.store import BundleStore
from training.cli.terminal import Terminal

_LOOK_SECONDS: Final = 0.2
_GIB: Final = 2**30
_MEMORY_GIB: Final = 8.0
_MINUTES: Final = 60.0

_STAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "reading and cleaning": ("Reading",),
    "stage one: ALS, links, user vectors": ("Stage one",),
    "candidates and features of the ranker's groups": ("Candidates",),
    "choosing loss and trees": ("Choosing",),
    "ranker": ("Ranker",),
    "popularity, SVD; up to 10,000 movies EASE and item-kNN": ("Regularization", "Baselines"),
    "two-stage lists of the judged users": ("Two-stage",),
    "judging all lists": ("Judging",),
    "report": ("Report",),
    "bundle: leaf tables, similarity index, exports": ("Leaf", "Similarity", "Tables"),
}
"""Rows of the table, and how the titles of their steps begin."""
_REST: Final = "the rest: splits, gate, files, MLflow"
MARKER: Final = "<!-- Below: written by python -m benchmarks.training_scale. -->"
_NAME: Final = "training-scale"
_LOCAL: Final = "local"
_SPARK: Final = "spark"


class ScaleError(Exception):
    """A training that failed, or took more than it may."""


@dataclass(frozen=True)
class Stage:
    """All steps of one kind."""

    steps: int
    seconds: float
    cpu_seconds: float
    peak_gib: float | None
    """Of the process, the most in any of the steps; None where it was not measured."""


@dataclass(frozen=True)
class Run:
    """What one training took."""

    engine: str
    ratings: int
    users: int
    movies: int
    judged: int
    """Users by whom it was."""
    ndcg: Mapping[str, float]
    """nDCG@10 by model."""
    groups: int
    seconds: float
    cpu_seconds: float
    """Of all threads: more than `seconds` where two work, less where others use the machine. On Spark, of the
    workers and executors too, and so more than the steps have, which are the job's own."""
    sampled_gib: float
    """The most resident memory of the process and its children together, looked at five times a second."""
    cluster_gib: float
    """The same of Spark's workers and their executors; 0 without."""
    stages: Mapping[str, Stage]

    @property
    def peak_gib(self) -> float:
        """The most there was, be it between two looks."""
        peaks = [stage.peak_gib for stage in self.stages.values() if stage.peak_gib is not None]
        return max(self.sampled_gib, *peaks)


def main(
    sizes: Annotated[
        list[float] | None, typer.Argument(min=1, max=1e9, help="Ratings. Unset: 1e6 5e6 20e6.")
    ] = None,
    work_dir: Annotated[
        Path, typer.Option(help="Data sets, bundles, and results: those that are there are not made again.")
    ] = Path("artifacts/training-scale"),
    out: Annotated[Path, typer.Option(help="Folder of the page and of the plot.")] = Path("docs"),
    *,
    spark: Annotated[bool, typer.Option("--spark", help="Train on Spark as well.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep data sets and bundles.")] = False,
) -> None:
    """Generates ratings, trains on them, and writes table and plot."""
    console = Terminal()
    runs = []
    engines = (_LOCAL, _SPARK) if spark else (_LOCAL,)
    for size in sizes or [1e6, 5e6, 20e6]:
        folder = work_dir / f"{size / 1e6:g}-million"
        try:
            runs += [_run_of(folder, int(size), engine, console) for engine in engines]
        except ScaleError as error:
            console.print(str(error), soft_wrap=True)
            raise typer.Exit(1) from None
        if not keep:
            for kept in folder.iterdir():
                if kept.is_dir():
                    shutil.rmtree(kept)
    _write(out, runs)
    console.print(_table(runs), soft_wrap=True)


def _run_of(folder: Path, size: int, engine: str, console: Terminal) -> Run:
    result = folder / f"{engine}.json"
    if result.is_file():
        record = json.loads(result.read_text(encoding="utf-8"))
        stages = {name: Stage(**stage) for name, stage in record.pop("stages").items()}
        return Run(**record, stages=stages)
    data, root = folder / "data", folder / f"bundles-{engine}"
    if not data.is_dir():
        console.print(f"Generating {size:,} ratings in {data}")
        aside = folder / ".data"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        write_long_tail(aside, size)
        aside.rename(data)
    shutil.rmtree(root, ignore_errors=True)
    log = folder / f"{engine}.log"
    console.print(f"Training, {engine}; it says what it does in {log}")
    with ExitStack() as stack:
        cluster = None
        if engine == _SPARK:
            logs = folder / "spark"
            shutil.rmtree(logs, ignore_errors=True)
            logs.mkdir()
            cluster = stack.enter_context(spark_cluster(logs, driver_memory="4g"))
        run = train(size, data, root, log, cluster)
    result.write_text(json.dumps(asdict(run), indent=1), encoding="utf-8")
    return run


def train(size: int, data: Path, root: Path, log: Path, cluster: SparkCluster | None = None) -> Run:
    """Trains in a process of its own.

    Args:
        size: how the data set is called in an error.
        data: its folder.
        root: where the bundle goes.
        log: where the output goes.
        cluster: where ALS is fitted; None: in the process.

    Raises:
        ScaleError: it failed, or took more memory or time than it may.
    """
    engine = _LOCAL if cluster is None else _SPARK
    ours = ("MOVIEREC_", "MLFLOW_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = {**kept, "MOVIEREC_DATA_DIR": str(data), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {} if cluster is None else cluster.environment
    options = ("--bundle-root", str(root), "--engine", engine)
    command = (sys.executable, "-m", "training", "train-ranker", *options)
    workers = () if cluster is None else tuple(worker.pid for worker in cluster.workers)
    began, peak, cluster_peak = time.monotonic(), 0, 0
    cpu_before = sum(sum(tree_seconds(pid).values()) for pid in workers)
    cpu: dict[int, float] = {}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # the job of ours
            command, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                for pid in (process.pid, *workers):
                    cpu |= tree_seconds(pid)
                peak = max(peak, tree_bytes(process.pid))
                cluster_peak = max(cluster_peak, sum(map(tree_bytes, workers)))
                if peak > _MEMORY_GIB * _GIB:
                    raise ScaleError(f"{size:,} ratings took more than {_MEMORY_GIB:g} GiB: see {log}")
                time.sleep(_LOOK_SECONDS)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise ScaleError(f"training on {size:,} ratings ended with status {process.returncode}: see {log}")
    seconds = time.monotonic() - began
    cpu_seconds = sum(cpu.values()) - cpu_before
    if seconds > 60 * _MINUTES:
        raise ScaleError(f"{size:,} ratings took {seconds / 60:.0f} min, {_MINUTES:g} are allowed: see {log}")
    store = BundleStore(root)
    bundle = store.path(store.pointer().bundle_id)
    steps = json.loads((bundle / "build.json").read_text(encoding="utf-8"))["steps"]
    summary = json.loads((bundle / "exports" / "training_summary.json").read_text(encoding="utf-8"))
    run = Run(
        engine=engine,
        ratings=summary["ratings"],
        users=summary["users"],
        movies=summary["movies"],
        judged=summary["judged_users"],
        ndcg={model: means["ndcg_at_10"] for model, means in summary["metrics"].items()},
        groups=summary["groups"],
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        sampled_gib=peak / _GIB,
        cluster_gib=cluster_peak / _GIB,
        stages=_stages(steps, seconds=seconds, cpu_seconds=cpu_seconds),
    )
    if run.peak_gib > _MEMORY_GIB:
        raise ScaleError(f"{size:,} ratings took more than {_MEMORY_GIB:g} GiB: see {log}")
    return run


def _stages(steps: Sequence[Mapping[str, Any]], *, seconds: float, cpu_seconds: float) -> dict[str, Stage]:
    stages = {}
    for name, beginnings in _STAGES.items():
        own = [step for step in steps if step["title"].startswith(beginnings)]
        peaks = [step["peak_bytes"] / _GIB for step in own if step["peak_bytes"] is not None]
        stages[name] = Stage(
            steps=len(own),
            seconds=sum(step["seconds"] for step in own),
            cpu_seconds=sum(step["cpu_seconds"] for step in own),
            peak_gib=max(peaks, default=None),
        )
    rest = seconds - sum(stage.seconds for stage in stages.values())
    cpu_rest = cpu_seconds - sum(stage.cpu_seconds for stage in stages.values())
    return stages | {_REST: Stage(0, rest, cpu_rest, None)}


# The page


def _write(out: Path, runs: Sequence[Run]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    page = out / f"{_NAME}.md"
    above = page.read_text(encoding="utf-8").partition(MARKER)[0] if page.is_file() else ""
    page.write_text(f"{above}{MARKER}\n\n{_table(runs)}", encoding="utf-8")
    _plot(runs).savefig(out / f"{_NAME}.svg", metadata={"Date": None})


def _table(runs: Sequence[Run]) -> str:
    """Markdown: columns of minutes, of processor minutes and of GiB for each run."""
    columns = ("min", "CPU min", "GiB")
    head = [f"{_title(run)}, {column}" for run in runs for column in columns]
    rows = [
        ["users by movies", *_pairs(runs, lambda run: (f"{run.users:,} by {run.movies:,}", "", ""))],
        ["judged users", *_pairs(runs, lambda run: (f"{run.judged:,}", "", ""))],
        ["ranker's groups", *_pairs(runs, lambda run: (f"{run.groups:,}", "", ""))],
    ]
    for name in runs[0].stages:
        stages = [run.stages[name] for run in runs]
        rows.append([name, *(text for stage in stages for text in _cells(stage))])
    rows.append(["**all**", *_pairs(runs, _total)])
    if any(run.engine == _SPARK for run in runs):
        rows.append(["Spark's workers and executors", *_pairs(runs, _of_cluster)])
    rows += [
        ["nDCG@10 of two-stage, ALS, popularity", *_pairs(runs, lambda run: (_ndcg(run), "", ""))],
    ]
    lines = [["", *head], ["---", *["--:"] * len(head)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _title(run: Run) -> str:
    return f"{run.ratings / 1e6:.1f} million" + (", Spark" if run.engine == _SPARK else "")


def _pairs(runs: Sequence[Run], cells: Any) -> list[str]:
    return [cell for run in runs for cell in cells(run)]


def _cells(stage: Stage) -> tuple[str, str, str]:
    times = f", {stage.steps} times" if stage.steps > 1 else ""
    peak = "" if stage.peak_gib is None else f"{stage.peak_gib:.1f}"
    return f"{stage.seconds / 60:.1f}{times}", f"{stage.cpu_seconds / 60:.1f}", peak


def _total(run: Run) -> tuple[str, str, str]:
    return f"**{run.seconds / 60:.1f}**", f"**{run.cpu_seconds / 60:.1f}**", f"**{run.peak_gib:.1f}**"


def _of_cluster(run: Run) -> tuple[str, str, str]:
    return "", "", f"{run.cluster_gib:.1f}" if run.engine == _SPARK else ""


def _ndcg(run: Run) -> str:
    return ", ".join(f"{run.ndcg[model]:.3f}" for model in ("two_stage", "als", "popularity"))


def _plot(runs: Sequence[Run]) -> Figure:
    style: dict[Any, Any] = {"svg.hashsalt": "movierec", "font.size": 9, "legend.frameon": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        times, memory = figure.subplots(1, 2)
        places = np.arange(len(runs))
        names = [_title(run) for run in runs]
        below = np.zeros(len(runs))
        colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
        for name, colour in zip(runs[0].stages, colours, strict=False):
            minutes = np.array([run.stages[name].seconds / 60 for run in runs])
            times.bar(places, minutes, bottom=below, color=colour, label=name, width=0.6)
            below += minutes
            peaks = [run.stages[name].peak_gib for run in runs]
            if None not in peaks:
                memory.plot(places, peaks, marker="o", color=colour)
        memory.plot(places, [run.peak_gib for run in runs], "k--", marker="s", label="the whole job")
        memory.axhline(_MEMORY_GIB, color="#b5562f", linewidth=1)
        memory.annotate("allowed", (0, _MEMORY_GIB), (0, -11), textcoords="offset points", color="#b5562f")
        for axes, title in ((times, "minutes"), (memory, "peak of resident memory, GiB")):
            axes.set_title(title, loc="left")
            axes.set_xticks(places, names)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(bottom=0)
        memory.legend(loc="center left")
        figure.legend(*times.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    typer.run(main)
