"""The ratios that matter, beside what is asked of them; tables, a file and a picture of it all."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.serving.measurements import BATCH_USERS, GENERATOR, LOOK_UPS, SIMILAR, Measurement, Results
from benchmarks.serving.systems import EMPTY, MODEL, NUMPY, OURS, REST, TITLES, USUAL

mpl.use("Agg")
import matplotlib.pyplot as plt

_PERCENTILES: Final = (50, 95, 99)
_PROCESSES: Final = ("envoy", "gateway", "candidate", "ranking")
"""Those of systems of more than one process."""
_BATCHING_STAGES: Final = ("candidate", "ranking")


@dataclass(frozen=True)
class Figure:
    """A number that says how good the product is."""

    name: str
    """What it is, as a key of the results."""
    of: str
    """What it was measured at: a number in flight, or a kind of request."""
    value: float


@dataclass(frozen=True)
class Bar:
    """What is asked of a figure."""

    limit: float
    at_least: bool = False
    """Whether the figure must not be lower; else it must not be higher."""

    def met_by(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def sign(self) -> str:
        """What stands between a good figure and the limit."""
        return "≥" if self.at_least else "≤"

    @property
    def opposite(self) -> str:
        """What stands between any other figure and the limit."""
        return "<" if self.at_least else ">"


TITLE_OF: Final[Mapping[str, str]] = {
    "cpu_over_numpy": "processor time, ours / numpy",
    "cpu_over_usual": "processor time, ours / usual",
    "rest_cpu_over_numpy": "processor time, rest / numpy",
    "rest_cpu_over_usual": "processor time, rest / usual",
    "p50_over_floor": "p50, ours / (empty + model)",
    "cpu_over_floor": "processor time, ours / (empty + model)",
    "answers_over_numpy": "answers/s, ours / numpy",
    "answers_over_usual": "answers/s, ours / usual",
    "rest_answers_over_numpy": "answers/s, rest / numpy",
    "rest_answers_over_usual": "answers/s, rest / usual",
    "p99_over_p50": "p99 / p50 of ours",
    "look_up_p50_over_hop": "p50 / (hops + encoding)",
    "look_up_cpu_over_hop": "CPU / (hops + encoding)",
    "batch_cpu_ms_per_user": f"batch of {BATCH_USERS}, CPU ms per user",
    "batch_ms_per_user": f"batch of {BATCH_USERS}, ms per user",
    "explaining_ms": "explaining a page, ms more",
}
"""Names of figures for people, in the order of the table."""
BARS: Final[Mapping[tuple[str, str], Bar]] = {
    ("cpu_over_numpy", "1"): Bar(2.0),
    ("cpu_over_numpy", "32"): Bar(0.70),
    ("cpu_over_usual", "1"): Bar(0.8),
    ("cpu_over_usual", "32"): Bar(0.27),
    ("rest_cpu_over_numpy", "32"): Bar(1.0),
    ("p50_over_floor", "1"): Bar(1.5),
    ("answers_over_numpy", "64"): Bar(1.0, at_least=True),
    ("answers_over_usual", "64"): Bar(1.0, at_least=True),
    ("p99_over_p50", "32"): Bar(3.0),
    **{("look_up_p50_over_hop", kind): Bar(1.25) for kind in LOOK_UPS},
    ("batch_cpu_ms_per_user", ""): Bar(0.5),
    ("explaining_ms", ""): Bar(0.6),
}


def figures(results: Results) -> list[Figure]:
    """Every figure that what was measured gives, in the order of `TITLE_OF`."""
    found = [*_over_monoliths(results.lists), *_over_floor(results.lists), *_of_look_ups(results)]
    if results.batches.latencies:
        of_batches = (results.batches.servers_cpu_ms, results.batches.percentile_ms(50))
        for name, milliseconds in zip(
            ("batch_cpu_ms_per_user", "batch_ms_per_user"), of_batches, strict=True
        ):
            found.append(Figure(name, "", milliseconds / BATCH_USERS))
    if results.explaining_ms is not None:
        found.append(Figure("explaining_ms", "", results.explaining_ms))
    order = list(TITLE_OF)
    return sorted(found, key=lambda figure: order.index(figure.name))


def _over_monoliths(lists: Mapping[tuple[str, int], Measurement]) -> Iterator[Figure]:
    for (name, many), measured in lists.items():
        for other in (NUMPY, USUAL):
            if name not in {OURS, REST} or (other, many) not in lists:
                continue
            prefix = "rest_" if name == REST else ""
            baseline = lists[other, many]
            cpu = measured.servers_cpu_ms / baseline.servers_cpu_ms
            yield Figure(f"{prefix}cpu_over_{other}", str(many), cpu)
            rate = measured.answers_per_second / baseline.answers_per_second
            yield Figure(f"{prefix}answers_over_{other}", str(many), rate)


def _over_floor(lists: Mapping[tuple[str, int], Measurement]) -> Iterator[Figure]:
    for (name, many), measured in lists.items():
        if name != OURS:
            continue
        yield Figure("p99_over_p50", str(many), measured.percentile_ms(99) / measured.percentile_ms(50))
        if not {(EMPTY, many), (MODEL, many)} <= lists.keys():
            continue
        hops, work = lists[EMPTY, many], lists[MODEL, many]
        cpu_floor = hops.servers_cpu_ms + work.servers_cpu_ms
        yield Figure("cpu_over_floor", str(many), measured.servers_cpu_ms / cpu_floor)
        if many == 1:  # with more in flight, each waits for the others in its own way
            p50_floor = hops.percentile_ms(50) + work.percentile_ms(50)
            yield Figure("p50_over_floor", "1", measured.percentile_ms(50) / p50_floor)


def _of_look_ups(results: Results) -> Iterator[Figure]:
    for kind in LOOK_UPS:
        if (kind, True) not in results.look_ups:
            continue
        ours, hop = results.look_ups[kind, False], results.look_ups[kind, True]
        yield Figure("look_up_p50_over_hop", kind, ours.percentile_ms(50) / hop.percentile_ms(50))
        yield Figure("look_up_cpu_over_hop", kind, ours.servers_cpu_ms / hop.servers_cpu_ms)


def show(results: Results, console: Console) -> None:
    """Prints it all."""
    for name in dict.fromkeys(name for name, _ in results.lists):
        console.print(f"{name}: {TITLES[name]}")
    for table in _lists_tables(results):
        console.print(table)
    console.print(_look_ups_table(results))
    console.print(_memory_table(results))
    console.print(_figures_table(results))
    for (name, many), measured in results.lists.items():
        if measured.degraded:
            console.print(f"{name}, {many} in flight: {measured.degraded} DEGRADED answers", style="red")


def _lists_tables(results: Results) -> Iterator[Table]:
    answers = Table(title="A personal list of 20: answers, and users in a call of a stage on average")
    for heading in ("", "", "answers/s", "p50 ms", "p95 ms", "p99 ms", *_BATCHING_STAGES):
        answers.add_column(heading, justify="right" if heading else "left")
    costs = Table(title="Processor ms per answer")
    for heading in ("", "", *_PROCESSES, "all servers", GENERATOR):
        costs.add_column(heading, justify="right" if heading else "left")
    for many, rows in groupby(results.lists.items(), key=lambda item: item[0][1]):
        answers.add_section()
        costs.add_section()
        for (name, _), measured in rows:
            answers.add_row(
                str(many),
                name,
                f"{measured.answers_per_second:.0f}",
                *(f"{measured.percentile_ms(share):.1f}" for share in _PERCENTILES),
                *(_cell(measured.batch_sizes.get(stage)) for stage in _BATCHING_STAGES),
            )
            costs.add_row(
                str(many),
                name,
                *(
                    _cell(measured.cpu_ms(process) if process in measured.cpu_seconds else None)
                    for process in _PROCESSES
                ),
                _cell(measured.servers_cpu_ms),
                _cell(measured.cpu_ms(GENERATOR) if GENERATOR in measured.cpu_seconds else None),
            )
    yield answers
    yield costs


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _look_ups_table(results: Results) -> Table:
    table = Table(title="What needs no model work, one in flight, beside empty hops and encoding")
    for heading in ("", "p50 ms", "CPU ms", "hops: p50 ms", "CPU ms"):
        table.add_column(heading, justify="right" if heading else "left")
    for kind, method in LOOK_UPS.items():
        pair = (results.look_ups.get((kind, empty)) for empty in (False, True))
        cells = [
            cell
            for measured in pair
            if measured is not None
            for cell in (f"{measured.percentile_ms(50):.2f}", f"{measured.servers_cpu_ms:.2f}")
        ]
        if cells:
            table.add_row(method + (", two hops" if kind == SIMILAR else ""), *cells)
    return table


def _memory_table(results: Results) -> Table:
    table = Table(title="Memory at its peak, MiB")
    for heading in ("system", "in all", "of which"):
        table.add_column(heading, justify="right" if heading == "in all" else "left")
    by_system: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (name, process), memory in results.memory_mib.items():
        by_system[name][process] = memory
    for name, memories in by_system.items():
        parts = ", ".join(f"{process} {memory:.0f}" for process, memory in memories.items())
        table.add_row(name, f"{sum(memories.values()):.0f}", parts if len(memories) > 1 else "")
    return table


def _figures_table(results: Results) -> Table:
    """A row per figure, a column per number in flight; what is asked for stands beside the value."""
    columns = list(dict.fromkeys(str(many) for _, many in results.lists))
    table = Table(title="What it comes to, beside what is asked for")
    table.add_column("requests in flight")
    for heading in columns:
        table.add_column(heading, justify="right")
    rows: defaultdict[str, dict[str, Text]] = defaultdict(dict)
    for figure in figures(results):
        is_of_load = figure.of.isdecimal()
        title = TITLE_OF[figure.name]
        name = title if is_of_load or not figure.of else f"{figure.of}, {title}"
        rows[name][figure.of if is_of_load else "1"] = _with_bar(figure)
    for name, cells in rows.items():
        table.add_row(name, *(cells.get(column, "") for column in columns))
    return table


def _with_bar(figure: Figure) -> Text:
    bar = BARS.get((figure.name, figure.of))
    if bar is None:
        return Text(f"{figure.value:.2f}")
    color, sign = ("green", bar.sign) if bar.met_by(figure.value) else ("red", bar.opposite)
    return Text.assemble((f"{figure.value:.2f}", color), f" {sign} {bar.limit:g}")


def as_record(results: Results) -> dict[str, Any]:
    """All of it as plain data: `ratios` by name and what they were measured at, and what they come from."""
    ratios: defaultdict[str, dict[str, float]] = defaultdict(dict)
    milliseconds: dict[str, float] = {}
    for figure in figures(results):
        if figure.of:
            ratios[figure.name][figure.of] = figure.value
        else:
            milliseconds[figure.name] = figure.value
    lists: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for (name, many), measured in results.lists.items():
        lists[name][str(many)] = _measurement_record(measured)
    look_ups: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for (kind, empty), measured in results.look_ups.items():
        look_ups[kind][EMPTY if empty else OURS] = _measurement_record(measured)
    memory: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (name, process), mib in results.memory_mib.items():
        memory[name][process] = mib
    return {
        "ratios": ratios,
        "milliseconds": milliseconds,
        "lists": lists,
        "look_ups": look_ups,
        "batches": _measurement_record(results.batches) if results.batches.latencies else None,
        "memory_mib": memory,
    }


def _measurement_record(measured: Measurement) -> dict[str, Any]:
    return {
        "answers": len(measured.latencies),
        "degraded": measured.degraded,
        "answers_per_second": measured.answers_per_second,
        **{f"p{share}_ms": measured.percentile_ms(share) for share in _PERCENTILES},
        "cpu_ms": {process: measured.cpu_ms(process) for process in measured.cpu_seconds},
        "batch_sizes": measured.batch_sizes,
    }


def write(results: Results, path: Path) -> None:
    """Writes the record to a JSON file, and a picture beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_record(results), indent=1) + "\n", encoding="utf-8")
    _draw(results, path.with_suffix(".svg"))


def _draw(results: Results, path: Path) -> None:
    """Processor time per answer by process, p50 and answers per second, by number in flight."""
    in_flight = list(dict.fromkeys(many for _, many in results.lists))
    names = list(dict.fromkeys(name for name, _ in results.lists))
    figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        measured = [results.lists[name, many] for many in in_flight]
        at = [x + (place - (len(names) - 1) / 2) * width for x in range(len(in_flight))]
        color = f"C{place}"
        bottom = [0.0] * len(in_flight)
        processes = [process for process in measured[0].cpu_seconds if process != GENERATOR]
        for process in processes:
            heights = [one.cpu_ms(process) for one in measured]
            axes[0].bar(at, heights, width, bottom=bottom, color=color, edgecolor="white", linewidth=0.6)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axes[1].plot(
            range(len(in_flight)), [one.percentile_ms(50) for one in measured], marker="o", color=color
        )
        axes[2].bar(at, [one.answers_per_second for one in measured], width, color=color, label=TITLES[name])
    titles = ("Processor ms per answer, by process", "p50, ms", "Answers per second")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
        axis.set_xticks(range(len(in_flight)), [str(many) for many in in_flight])
        axis.set_xlabel("requests in flight")
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    axes[1].set_yscale("log")
    figure.legend(loc="outside lower center", ncols=len(names), fontsize="small")
    figure.savefig(path)
    plt.close(figure)
