"""The fault matrix: what may break, what is promised then, and a plugin of pytest that writes the outcome.

A test that proves a row carries `@pytest.mark.row(number)`, wherever it stands in the tree, and gives its
figures by `record_property`: `requests`, `failed`, `degraded`, `counter`, and others by names of their own.
`make faults` runs all of them and writes the page.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

_OPTION: Final = "--matrix"
_FIGURES: Final = ("requests", "failed", "degraded", "counter")
_NONE: Final = "-"


@dataclass(frozen=True)
class Row:
    """A fault, and what is promised."""

    fault: str
    promise: str
    not_here: str = ""
    """What of it no test can try on one machine, and why."""


ROWS: Final[dict[str, dict[int, Row]]] = {
    "Dependencies": {
        1: Row("candidate service down", "popular list, degraded; UNAVAILABLE to whoever denies fallbacks"),
        2: Row("candidate service slow", "popular list within the budget, degraded"),
        3: Row("a stage answers what cannot be used", "the next rung, degraded"),
        4: Row("ranking service down", "candidates in their own order, degraded"),
        5: Row("ranking service slow", "candidates in their own order within the budget, degraded"),
        6: Row("ranker damaged", "no crash; the bundle that is held stays"),
        7: Row("similarity missing", "movies of the same genres, degraded; personal lists as ever"),
        8: Row("catalogue missing", "not serving at the start; later the one that is held stays"),
        9: Row("bundle half written", "invisible"),
        10: Row("bundles swapped under load", "no error; each answer is that of the bundle it names"),
        11: Row("stages hold different bundles", "candidates in their own order, degraded: BUNDLE_MISMATCH"),
        12: Row("all stages down", "popular lists and look-ups as ever; personal lists popular, degraded"),
        13: Row(
            "one replica of two frozen, cut off, killed or stopped",
            "none fails, at most 1 % degraded and none 3 s later, every other answer as before",
        ),
    },
    "Data": {
        14: Row("unknown user", "popular list, not degraded; NOT_FOUND to whoever denies fallbacks"),
        15: Row("everything seen or excluded", "an empty or a popular list without it, not degraded"),
        16: Row("movie that nobody rated", "movies of the same genres, or none; not degraded"),
        17: Row("NaN and infinity in factors and scores", "left out, never in an answer"),
        18: Row("movie without catalogue entry or features", "left out, counted, the list filled"),
        19: Row(
            "a user with very many ratings",
            "the newest of a bounded number count, in training and serving",
        ),
        20: Row("ids given twice", "exclusions merged; a history refused"),
    },
    "Requests": {
        21: Row("limit of a million", "100 movies"),
        22: Row("negative numbers", "400 that names the field"),
        23: Row("what is no number", "400 as google.rpc.Status"),
        24: Row("page past the end", "empty, with the right total"),
        25: Row("escapes in paths", "400"),
        26: Row("unknown path, method, parameter", "404, 405, 400, as JSON"),
        27: Row("clients that send or read slowly", "cut off after 3 s, others unaffected"),
        28: Row("oversized requests", "413 beyond 64 KiB; RESOURCE_EXHAUSTED beyond 1 MiB"),
        29: Row("deadlines of 1, 5, 50 ms", "DEADLINE_EXCEEDED or a step down in time, no work after it"),
        30: Row("clients that cancel", "stages are cancelled, counted, nothing stays in flight"),
        31: Row(
            "five times overload", "90 % of the peak, the rest refused at once, look-ups and health go on"
        ),
        32: Row("retry storm", "at most 1.25 attempts per request, 3 where requests are few"),
        33: Row("client that pings too often", "its connection is closed, others are fine"),
    },
    "Process and host": {
        34: Row("SIGTERM under load", "none fails, exit status 0"),
        35: Row("SIGTERM while loading, and twice", "exit within 2 s, at once"),
        36: Row(
            "killed for its memory",
            "hidden by the other replica",
            "where there are no control groups of version 1, SIGKILL stands for that of the kernel",
        ),
        37: Row("loader stuck", "liveness fails, it serves on"),
        38: Row(
            "clock jumps",
            "budgets and settle delay unaffected",
            "the machine's clock is everybody's: what reads the wall clock gets another one",
        ),
        39: Row("port taken, bad setting", "exit status 2 and one line"),
    },
    "Training and publishing": {
        40: Row("disk full", "the job fails, what is served stays, the rest is removed next time"),
        41: Row("MLflow down or silent", "the job succeeds, the run is kept and sent later"),
        42: Row("job interrupted", "resumed, it ends with the same bytes"),
        43: Row("two jobs in one folder", "the second ends with a clear line"),
        44: Row("ratings given twice", "the last by time counts"),
        45: Row("ratings out of range", "named by line; a few are dropped, more fail the job"),
        46: Row("wrong columns, BOM, CRLF, empty files", "named before training"),
        47: Row("odd timestamps", "the order of lines does not matter; times ahead are counted"),
        48: Row("ids beyond 2³¹, unknown movies", "fail; dropped and counted"),
        49: Row("a worse model", "not published"),
    },
    "Security": {
        50: Row("pickle in a bundle", "never loaded"),
        51: Row("bundle changed after publication", "refused, the old one stays"),
        52: Row("path in a bundle's id or files", "refused; links are not followed"),
        53: Row("admin and descriptors from outside", "404; reflection can be turned off"),
        54: Row("plain text", "TLS 1.2 or newer and client certificates by setting"),
        55: Row("secrets", "in no log, metric, argument or error"),
        56: Row("log injection", "one line of JSON per event, control characters escaped"),
        57: Row("errors that tell what is inside", "no class name, path or stack in any text"),
        58: Row("user ids in logs", "none"),
        59: Row(
            "a foreign bundle, or a foreign package",
            "unsigned bundles are refused where a key is set; packages are pinned with hashes",
            "advisories are read over the network, by CI",
        ),
        60: Row(
            "a container that does more than it must",
            "no root, no capabilities, read-only, limits",
            "read from the manifests; `make containers` tries it with an engine",
        ),
    },
}


@dataclass
class _Proof:
    """A test of a row, all its cases together."""

    cases: int = 0
    failed: int = 0
    figures: list[dict[str, Any]] = field(default_factory=list)
    """Of the cases that gave any, with the case's own name."""


class _Matrix:
    def __init__(self, page: Path, command: str) -> None:
        self._page = page
        self._command = command
        self._rows_of: dict[str, tuple[int, ...]] = {}
        self._proofs: dict[int, dict[str, _Proof]] = defaultdict(lambda: defaultdict(_Proof))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            marked = item.iter_markers("row")
            self._rows_of[item.nodeid] = tuple(row for mark in marked for row in mark.args)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped or not (report.when == "call" or report.failed):
            return
        test, _, case = report.nodeid.partition("[")
        for row in self._rows_of[report.nodeid]:
            proof = self._proofs[row][test]
            proof.cases += 1
            proof.failed += report.failed
            if report.user_properties:
                proof.figures.append({"case": case.removesuffix("]"), **dict(report.user_properties)})

    def pytest_sessionfinish(self) -> None:
        self._page.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        rows = [number for table in ROWS.values() for number in table]
        passed = sum(_verdict(self._proofs[number]) == "yes" for number in rows)
        yield "# Faults"
        yield ""
        yield f"What may break, what is promised then, and what came of it: written by `{self._command}`."
        yield f"{passed} of {len(rows)} rows passed in this run, on {time.strftime('%-d %B %Y')}."
        for title, table in ROWS.items():
            yield ""
            yield f"## {title}"
            yield ""
            yield "| # | Fault | Promised | Tried by | Requests | Answers | Degraded | Counter | Pass |"
            yield "|---|---|---|---|---|---|---|---|---|"
            for number, row in table.items():
                proofs = self._proofs[number]
                tried = "<br>".join(_tried(test, proof) for test, proof in proofs.items()) or _NONE
                cells = (str(number), row.fault, row.promise, tried, *_figures(proofs), _verdict(proofs))
                yield f"| {' | '.join(cells)} |"
            yield from _not_here(table)
        yield from self._more_figures()

    def _more_figures(self) -> Iterator[str]:
        """What tests measured beyond the columns of the table."""
        rows: dict[tuple[str, str], list[int]] = defaultdict(list)
        told: dict[tuple[str, str], str] = {}
        for number, proofs in sorted(self._proofs.items()):
            for test, one in ((test, one) for test, proof in proofs.items() for one in proof.figures):
                rows[test, one["case"]].append(number)
                told[test, one["case"]] = ", ".join(
                    f"{name} {value}" for name, value in one.items() if name != "case"
                )
        yield ""
        yield "## Figures"
        yield ""
        for (test, case), numbers in rows.items():
            which = f"row{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
            yield f"- {which}, {_words(test)}{f' ({case})' if case else ''}: {told[test, case]}"


def _words(test: str) -> str:
    return test.rpartition("::")[2].removeprefix("test_").replace("_", " ")


def _tried(test: str, proof: _Proof) -> str:
    times = f" ({proof.cases} cases)" if proof.cases > 1 else ""
    failed = f", **{proof.failed} failed**" if proof.failed else ""
    return f"[{_words(test)}](../{test.partition('::')[0]}){times}{failed}"


def _figures(proofs: dict[str, _Proof]) -> Sequence[str]:
    figures = [one for proof in proofs.values() for one in proof.figures]
    requests, failed, degraded = (
        sum(one[name] for one in figures if name in one) if any(name in one for one in figures) else None
        for name in _FIGURES[:-1]
    )
    answers = None if requests is None else requests - (failed or 0)
    counters = "<br>".join(sorted({str(one["counter"]) for one in figures if "counter" in one}))
    numbers = (_NONE if number is None else f"{number:,}" for number in (requests, answers, degraded))
    return (*numbers, counters or _NONE)


def _verdict(proofs: dict[str, _Proof]) -> str:
    if not any(proof.cases for proof in proofs.values()):
        return "not tried"
    return "**no**" if any(proof.failed for proof in proofs.values()) else "yes"


def _not_here(table: dict[int, Row]) -> Iterator[str]:
    reasons = [f"- row {number}: {row.not_here}." for number, row in table.items() if row.not_here]
    if reasons:
        yield ""
        yield "Not on one machine:"
        yield ""
        yield from reasons


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option for the page to write."""
    parser.addoption(_OPTION, type=Path, help="page that receives what came of the rows of the fault matrix")


def pytest_configure(config: pytest.Config) -> None:
    """Listens where a page is asked for."""
    page = config.getoption(_OPTION)
    if page is not None:
        config.pluginmanager.register(_Matrix(page, "make faults"))
