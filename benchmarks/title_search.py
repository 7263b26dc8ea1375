"""What a search by title costs: `python -m benchmarks.title_search --help`.

Titles are those of a data set, and the same with their words in other orders where more are asked for.
Queries are drawn from them, as people type: a whole title, its first letters, two of its words, one word with
a letter missing, what is no title; the first letters also with a filter that leaves one movie in 1,000.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter, process_time, thread_time
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.table import Table

from serving.bundle.titles import TitleIndex, index_titles, words_of
from serving.limits import DEFAULT_LIMIT
from training.cli.terminal import Terminal
from training.data.movielens.data_set import read_data_set
from training.data.popularity import MovieStatistics, popularity

_FIRST_LETTERS: Final = 4
_KEPT_BY_FILTER: Final = 1_000
"""One movie in so many."""
_SELDOM: Final = "qxzjkvw"
"""Letters of what is no title."""


@dataclass(frozen=True)
class Kind:
    """How a query is made."""

    typed: Callable[[str, Random], str]
    """From a title."""
    filtered: bool = False
    """Whether a filter leaves few movies."""


def main(
    data_dir: Annotated[
        Path, typer.Option(envvar="MOVIEREC_DATA_DIR", help="Folder of a MovieLens data set.")
    ],
    movies: Annotated[int, typer.Option(min=1, help="Size of the catalogue.")] = 1_000_000,
    queries: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 300,
) -> None:
    """Prints what the best ten titles take, by the kind of query."""
    random = Random(0)  # noqa: S311  # no secret
    table, clean = read_data_set(data_dir)
    popular = popularity(MovieStatistics.of(clean.ratings, len(table.movies.ids)))
    rows = np.arange(movies) % len(table.titles)
    titles = [
        table.titles[row] if place < len(table.titles) else _shuffled(table.titles[row], random)
        for place, row in enumerate(rows.tolist())
    ]
    order = np.argsort(-popular[rows], kind="stable").astype(np.int32)
    began = process_time()
    content = index_titles(titles, table.movies.years[rows], order)
    built = process_time() - began
    index = TitleIndex(content, order)
    result = Table(
        title=f"{movies:,} titles, {len(content) / 2**20:.1f} MiB, built in {built:.1f} s of processor time"
    )
    result.add_column("query")
    for heading in ("p50, ms", "p95, ms", "longest turn, p95, ms", "without a match"):
        result.add_column(heading, justify="right")
    everything = np.zeros(movies, np.bool_)
    few = np.arange(movies) % _KEPT_BY_FILTER != 0
    for name, kind in KINDS.items():
        typed = [kind.typed(title, random) for title in random.choices(titles, k=queries)]
        searches = asyncio.run(_searches(index, typed, few if kind.filtered else everything))
        middle, high = np.percentile([one.seconds for one in searches], [50, 95]) * 1_000
        longest = np.percentile([one.longest_turn for one in searches], 95) * 1_000
        empty = sum(not one.found for one in searches)
        result.add_row(name, f"{middle:.2f}", f"{high:.2f}", f"{longest:.2f}", f"{empty / queries:.0%}")
    Terminal().print(result)


@dataclass(frozen=True)
class Search:
    """What one search took."""

    seconds: float
    longest_turn: float
    """Seconds of processor time for which nothing else had its turn on the event loop."""
    found: int


async def _searches(index: TitleIndex, queries: list[str], blocked: npt.NDArray[np.bool_]) -> list[Search]:
    """Searches, one after the other, beside a task that always wants its turn."""
    last = longest = 0.0

    async def other() -> None:
        nonlocal last, longest
        while True:
            now = thread_time()
            longest, last = max(longest, now - last), now
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    searches = []
    for query in queries:
        await asyncio.sleep(0)
        began, last = perf_counter(), thread_time()
        longest = 0.0
        rows = await index.search(query, blocked, DEFAULT_LIMIT)
        seconds = perf_counter() - began
        await asyncio.sleep(0)
        searches.append(Search(seconds, longest, rows.size))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return searches


def _shuffled(title: str, random: Random) -> str:
    words = title.split()
    return " ".join(random.sample(words, len(words)))


def _first_letters(title: str, random: Random) -> str:  # noqa: ARG001  # as the other kinds
    return " ".join(words_of(title))[:_FIRST_LETTERS] or title


def _two_words(title: str, random: Random) -> str:
    words = words_of(title)
    return " ".join(random.sample(words, min(len(words), 2))) or title


def _misspelt(title: str, random: Random) -> str:
    word = max(words_of(title), key=len, default=title)
    gone = random.randrange(len(word))
    return word[:gone] + word[gone + 1 :] or title


def _no_title(title: str, random: Random) -> str:  # noqa: ARG001  # as the other kinds
    return "".join(random.choices(_SELDOM, k=8))


KINDS: Final[dict[str, Kind]] = {
    "whole title": Kind(lambda title, _: title),
    "four letters": Kind(_first_letters),
    "two words": Kind(_two_words),
    "misspelt": Kind(_misspelt),
    "no title": Kind(_no_title),
    "a letter, filter": Kind(lambda title, random: _first_letters(title, random)[:1], filtered=True),
    "letters, filter": Kind(_first_letters, filtered=True),
    "misspelt, filter": Kind(_misspelt, filtered=True),
}
"""By the kind of query."""


if __name__ == "__main__":
    typer.run(main)
