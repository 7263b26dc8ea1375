"""What a search by title costs: `python -m benchmarks.title_search --help`.

Titles are those of a data set, and the same with their words in other orders where more are asked for.
Queries are drawn from them, as people type: a whole title, its first letters, two of its words, one word with
a letter missing.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Annotated, Final

import numpy as np
import typer
from rich.table import Table

from serving.bundle.titles import TitleIndex, index_titles, words_of
from serving.limits import DEFAULT_LIMIT
from training.cli.terminal import Terminal
from training.data.movielens.data_set import read_data_set
from training.data.popularity import MovieStatistics, popularity

_FIRST_LETTERS: Final = 4


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
    for heading in ("p50, ms", "p95, ms", "without a match"):
        result.add_column(heading, justify="right")
    blocked = np.zeros(movies, np.bool_)
    for kind, typed in KINDS.items():
        seconds, empty = [], 0
        for title in random.choices(titles, k=queries):
            query = typed(title, random)
            began = perf_counter()
            found = index.search(query, blocked, DEFAULT_LIMIT)
            seconds.append(perf_counter() - began)
            empty += not found.size
        middle, high = np.percentile(seconds, [50, 95]) * 1_000
        result.add_row(kind, f"{middle:.2f}", f"{high:.2f}", f"{empty / queries:.0%}")
    Terminal().print(result)


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


KINDS: Final[dict[str, Callable[[str, Random], str]]] = {
    "whole title": lambda title, _: title,
    "first four letters": _first_letters,
    "two words": _two_words,
    "a letter missing": _misspelt,
}
"""How a query is drawn from a title, by the kind of query."""


if __name__ == "__main__":
    typer.run(main)
