"""Steady load while bundles are swapped and replicas die: `python -m benchmarks.soak --help`.

Two of every server behind Envoy, in a network namespace of their own: `make soak`. Lists are asked for at an
even pace. Every few seconds the pointer goes on to the next of three bundles; now and then a replica is
killed and started again. Each answer is compared with what its bundle gives, and memory is watched.
"""

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import httpx
import matplotlib as mpl
import numpy as np
import typer
import uvloop
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.replicas import NetworkError, Replicas, running_replicas
from benchmarks.rolling import Edges, Expected, Load, Outcome, Tally, faults, questions_of
from benchmarks.servers import Server
from serving.bundle.store import BundleStore
from serving.features.sets import FeatureSet
from training.cli.terminal import Terminal
from training.data.generated import write_sample
from training.data.movielens.data_set import read_data_set
from training.engine.local import LocalEngine
from training.evaluation.splits import SplitProtocol
from training.models.job_context import JobContext
from training.models.ranker_selection import RankerChoice
from training.models.recipe import DEFAULT_PARAMETERS, Loss, RankerParameters, Recipe
from training.models.two_stage import fit_two_stage
from training.progress import Progress
from training.publish.publish import Build, publish

_BUNDLES: Final = 3
_ITERATIONS: Final = 50
_USERS: Final = 50
_TIMEOUT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.5
_SETTLE_SECONDS: Final = 8.0
"""Longer than a poll and a load of ranking, trial included; shorter than the time between two swaps."""
_AWAY_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 2.0
_WARM_UP_SECONDS: Final = 60.0
"""A process grows until it has held two bundles."""
_BIN_SECONDS: Final = 10.0
_FEW: Final = 0.01
_STEEP: Final = 1.0
"""MB a minute."""


@dataclass(frozen=True)
class Life:
    """Memory of one process, from its start to its end or the end of the load."""

    name: str
    pid: int
    began: float
    """Seconds since the load began."""
    times: list[float] = field(default_factory=list)
    """Seconds since the load began."""
    mib: list[float] = field(default_factory=list)
    """Resident, one per time."""

    def warm(self) -> tuple[Any, Any]:
        """Minutes and MB from the end of its warm-up on, two arrays."""
        times, mib = np.array(self.times), np.array(self.mib)
        late = times >= self.began + _WARM_UP_SECONDS
        return times[late] / 60, mib[late] * 2**20 / 1e6


@dataclass
class Soak:
    """What is done while the load runs, and what was seen."""

    replicas: Replicas
    load: Load
    lives: list[Life] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    """Seconds since the load began."""
    kills: list[float] = field(default_factory=list)

    async def swap(self, store: BundleStore, bundle_ids: Sequence[str], every_seconds: float) -> None:
        """Moves the pointer round the bundles until cancelled."""
        for place in count(1):
            await asyncio.sleep(every_seconds)
            store.point_to(bundle_ids[place % len(bundle_ids)], published_at=time.time())
            self.swaps.append(self.load.now)

    async def kill(self, every_seconds: float) -> None:
        """Kills one replica after another at random, and starts it again, until cancelled."""
        chance = random.Random(0)  # noqa: S311
        everyone = [one for pair in self.replicas.all.values() for one in pair]
        while True:
            await asyncio.sleep(every_seconds - _AWAY_SECONDS)
            one = chance.choice(everyone)
            one.kill()
            self.kills.append(self.load.now)
            await asyncio.sleep(_AWAY_SECONDS)
            one.start()

    async def watch(self) -> None:
        """Looks at the memory of each process until cancelled."""
        current: dict[str, Life] = {}
        while True:
            now = self.load.now
            for name, pid in self.replicas.processes.items():
                if name not in current or current[name].pid != pid:
                    current[name] = Life(name, pid, now)
                    self.lives.append(current[name])
                with suppress(OSError, KeyError):  # it has just been killed
                    current[name].mib.append(Server(pid, "").memory_mib())
                    current[name].times.append(now)
            await asyncio.sleep(_LOOK_SECONDS)


def slope(lives: Sequence[Life]) -> float:
    """MB a minute by least squares, each life with a level of its own; NaN where none was long enough."""
    over, under = 0.0, 0.0
    for minutes, megabytes in (life.warm() for life in lives):
        if minutes.size > 1:
            from_mean = minutes - minutes.mean()
            over += float(from_mean @ megabytes)
            under += float(from_mean @ from_mean)
    return over / under if under else float("nan")


def main(
    minutes: Annotated[float, typer.Option(min=0.1, max=10_000, help="Of load.")] = 30.0,
    per_second: Annotated[float, typer.Option(min=1, max=10_000, help="Requests.")] = 50.0,
    swap_seconds: Annotated[float, typer.Option(min=9, max=3_600, help="Between two swaps.")] = 10.0,
    kill_seconds: Annotated[float, typer.Option(min=4, max=3_600, help="Between two kills.")] = 30.0,
    out: Annotated[Path, typer.Option(help="Folder of the plot.")] = Path("build/soak"),
) -> None:
    """Swap and kill under load, and say what clients noticed and what memory grew."""
    console = Terminal()
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="movierec-soak-")))
        store, bundle_ids = _trained(directory / "bundles", Progress(console))
        questions = questions_of(store, bundle_ids[0], _USERS)
        expected = {one: Expected.of(store, one, questions) for one in bundle_ids}
        try:
            replicas = stack.enter_context(
                running_replicas(
                    store.root, directory, poll_seconds=_POLL_SECONDS, settle_seconds=_SETTLE_SECONDS
                )
            )
        except NetworkError as error:
            sys.exit(str(error))
        soak = Soak(replicas, Load(Edges([]), questions, per_second))
        uvloop.run(_run(soak, store, bundle_ids, minutes * 60, (swap_seconds, kill_seconds)))
    outcomes = soak.load.outcomes
    tally = Tally.of(outcomes, lambda outcome: expected[outcome.bundle_id].differs(outcome))
    names = sorted({life.name for life in soak.lives})
    slopes = {name: slope([life for life in soak.lives if life.name == name]) for name in names}
    for table in _tables(soak, tally, slopes):
        console.print(table)
    for (_, what), times in faults(outcomes).items():
        console.print(f"{times[0]:.1f} s to {times[-1]:.1f} s: {len(times)} {what}")
    _plot(soak).savefig(out / "soak.svg", metadata={"Date": None})
    console.print(f"Plot: {out / 'soak.svg'}")
    broken = verdict(tally, slopes)
    for line in broken:
        console.print(f"BROKEN: {line}", style="bold red")
    sys.exit(bool(broken))


def verdict(tally: Tally, slopes: Mapping[str, float]) -> list[str]:
    """What does not hold of what was promised."""
    broken = []
    if tally.failed:
        broken.append(f"{tally.failed} failed")
    if tally.wrong:
        broken.append(f"{tally.wrong} are not what their bundle gives")
    if tally.degraded > _FEW * tally.requests:
        broken.append(f"{tally.degraded} degraded")
    broken.extend(
        f"{name} grows by {value:.1f} MB a minute" for name, value in slopes.items() if value >= _STEEP
    )
    return broken


def _trained(root: Path, progress: Progress) -> tuple[BundleStore, list[str]]:
    """Bundles of the same made-up data set, each of another seed."""
    data = root.parent / "data"
    data.mkdir()
    write_sample(data)
    table, clean = read_data_set(data)
    choice = RankerChoice(loss=Loss.LOGLOSS, iterations=_ITERATIONS, validation_ndcg={})
    bundle_ids = []
    for seed in range(_BUNDLES):
        recipe = Recipe(
            als=DEFAULT_PARAMETERS,
            ranker=RankerParameters(iterations=_ITERATIONS),
            feature_groups=FeatureSet.EXTENDED.groups,
            protocol=SplitProtocol.USER,
            seed=seed,
            threads=1,
        )
        two_stage = fit_two_stage(clean.ratings, JobContext(table, recipe, progress, LocalEngine(2)), choice)
        build = Build(
            two_stage=two_stage, table=table, recipe=recipe, dataset_tag=clean.tag("sample"), metrics={}
        )
        bundle_ids.append(publish(root, build, progress, settle_seconds=0))
    store = BundleStore(root)
    store.point_to(bundle_ids[0], published_at=0)
    return store, bundle_ids


async def _run(
    soak: Soak,
    store: BundleStore,
    bundle_ids: Sequence[str],
    seconds: float,
    pauses: tuple[float, float],
) -> None:
    swap_seconds, kill_seconds = pauses
    async with httpx.AsyncClient(
        base_url=soak.replicas.url, timeout=_TIMEOUT_SECONDS, trust_env=False
    ) as client:
        soak.load.edges = Edges([client], {0})
        await _until_ready(client)
        async with soak.load.running():
            others = (soak.swap(store, bundle_ids, swap_seconds), soak.kill(kill_seconds), soak.watch())
            tasks = [asyncio.create_task(one) for one in others]
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    for task in done:
        task.result()  # none ends by itself: it raises


async def _until_ready(client: httpx.AsyncClient) -> None:
    """Returns once both gateways have been asked for a while: the edge knows all replicas by then."""
    while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110  # watched by polling
        await asyncio.sleep(_POLL_SECONDS)
    await asyncio.sleep(_LOOK_SECONDS)


def _tables(soak: Soak, tally: Tally, slopes: Mapping[str, float]) -> Iterator[Table]:
    bundles = ", ".join(f"{name} {count:,}" for name, count in tally.bundles.items())
    load = Table(
        "requests", "failed", "degraded", "wrong", "p50 ms", "p99 ms", "swaps", "kills", caption=bundles
    )
    load.add_row(
        *(f"{count:,}" for count in (tally.requests, tally.failed)),
        f"{tally.degraded:,} ({tally.degraded / tally.requests:.2%})",
        f"{tally.wrong:,}",
        f"{tally.p50_ms:.1f}",
        f"{tally.p99_ms:.1f}",
        f"{len(soak.swaps)}",
        f"{len(soak.kills)}",
    )
    yield load
    memory = Table("process", "lives", "most MB", "MB a minute")
    for name, value in slopes.items():
        lives = [life for life in soak.lives if life.name == name]
        most = max(mib for life in lives for mib in life.mib) * 2**20 / 1e6
        memory.add_row(name, f"{len(lives)}", f"{most:.0f}", f"{value:+.2f}")
    yield memory


def _plot(soak: Soak) -> Figure:
    style: dict[Any, Any] = {"svg.hashsalt": "movierec", "font.size": 9, "legend.frameon": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.6, 5.4), layout="constrained")
        answers, memory = figure.subplots(2, 1, sharex=True)
        _plot_answers(answers, soak.load.outcomes)
        names = sorted({life.name for life in soak.lives})
        colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
        for name, colour in zip(names, colours, strict=False):
            for place, life in enumerate(one for one in soak.lives if one.name == name):
                megabytes = np.array(life.mib) * 2**20 / 1e6
                label = name if place == 0 else None
                memory.plot(np.array(life.times) / 60, megabytes, color=colour, label=label, linewidth=1)
        for axes in (answers, memory):
            for kill in soak.kills:
                axes.axvline(kill / 60, color="0.8", linewidth=0.8, zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(bottom=0)
        memory.set_title("resident memory, MB; a line for each life, grey where one was killed", loc="left")
        memory.set_xlabel("minutes")
        figure.legend(*memory.get_legend_handles_labels(), loc="outside right center")
    return figure


def _plot_answers(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """The 99th percentile of each ten seconds, and how many were degraded or failed then."""
    bins: dict[int, list[Outcome]] = {}
    for one in outcomes:
        bins.setdefault(int(one.at // _BIN_SECONDS), []).append(one)
    places = sorted(bins)
    minutes = [place * _BIN_SECONDS / 60 for place in places]
    p99 = [float(np.percentile([one.seconds for one in bins[place]], 99)) * 1_000 for place in places]
    weak = [sum(one.degraded or one.failure is not None for one in bins[place]) for place in places]
    axes.plot(minutes, p99, color="#3b6ea5", linewidth=1, label="p99, ms")
    axes.bar(minutes, weak, width=_BIN_SECONDS / 60, color="#b5562f", label="degraded or failed")
    axes.set_title("answers, by ten seconds", loc="left")
    axes.legend(loc="upper right")


if __name__ == "__main__":
    typer.run(main)
