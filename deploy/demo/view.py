"""How the tour looks on a terminal of 100 columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.answers import MovieList
from movierec.gateway.v1 import movie_service_pb2 as pb
from training.cli.terminal import Terminal

WIDTH: Final = 100


@dataclass(frozen=True)
class RatedTitle:
    """A movie that somebody rated."""

    movie: pb.Movie
    rating: float


def new_console() -> Console:
    """Return the terminal: never wider than the tour needs, plain when it is a file or a pipe."""
    console = Terminal()
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def say(console: Console, line: str, style: str = "") -> None:
    """Print a line as it stands: not wrapped."""
    console.print(Text(line, style=style), soft_wrap=True)


def show_heading(console: Console, heading: str, curl: str) -> None:
    """Print what is asked, and how to ask it oneself."""
    console.print()
    say(console, heading, "bold")
    say(console, f"$ {curl}", "dim")


def show_verdict(console: Console, answer: MovieList, faults: Sequence[str]) -> None:
    """Print what served a list, and whatever is wrong with it."""
    line = f"model {answer.model}, degraded {str(answer.degraded).lower()}"
    if answer.fallback_reason:
        line += f", {pb.FallbackReason.Name(answer.fallback_reason)}"
    say(console, line, "dim")
    show_faults(console, faults)


def show_faults(console: Console, faults: Sequence[str]) -> None:
    """Print what is wrong."""
    for fault in faults:
        say(console, f"WRONG: {fault}", "bold red")


def show_list(console: Console, answer: MovieList) -> None:
    """Print a list of movies, a line each."""
    table = _table()
    table.add_column("#", justify="right")
    table.add_column("movie", ratio=5)
    table.add_column("genres", ratio=4, style="dim")
    table.add_column("score", justify="right")
    table.add_column("ratings", justify="right")
    table.add_column("source")
    for item in answer.movies:
        table.add_row(
            str(item.rank),
            _title(item.movie),
            _genres(item.movie),
            f"{item.score:.3f}",
            str(item.movie.rating_count),
            item.source,
        )
    console.print(table)


def show_beside(console: Console, liked: Sequence[RatedTitle], answer: pb.ListPersonalMoviesResponse) -> None:
    """Print what somebody liked beside what they are recommended, with the strongest reasons."""
    table = _table()
    table.add_column("liked last", ratio=5)
    table.add_column("recommended", ratio=6)
    table.add_column("score", justify="right")
    table.add_column("because", ratio=7)
    for old, new in zip_longest(liked, answer.movies):
        table.add_row(*_liked_cell(old), *_recommended_cells(new))
    console.print(table)


def _liked_cell(rated: RatedTitle | None) -> tuple[Text]:
    if rated is None:
        return (Text(),)
    stars = Text(f"{rated.rating:g}* ", style="yellow")
    return (_lines(stars + _title(rated.movie), _genres(rated.movie)),)


def _recommended_cells(item: pb.RecommendedMovie | None) -> tuple[Text, Text, Text]:
    if item is None:
        return (Text(), Text(), Text())
    movie = _lines(
        Text(f"{item.rank}. ") + _title(item.movie),
        _genres(item.movie),
        Text(item.source, style="dim"),
    )
    raising = [one for one in item.explanation if one.contribution > 0]
    lowering = [one for one in item.explanation if one.contribution < 0]
    reasons = [*map(_liked, item.because_of), *map(_reason, raising)]
    if lowering:
        reasons += [Text("although", style="italic"), *map(_reason, lowering)]
    return movie, Text(f"{item.score:.3f}"), _lines(*reasons)


def _liked(movie: pb.LikedMovie) -> Text:
    return Text(f"liked {movie.title}", style="italic")


def _reason(reason: pb.FeatureContribution) -> Text:
    """The phrase says the value."""
    style = "green" if reason.contribution > 0 else "red"
    return (
        Text(f"{reason.contribution:+.3f} ", style=style)
        + Text(f"{reason.feature}: ")
        + Text(reason.phrase, style="dim")
    )


def _title(movie: pb.Movie) -> Text:
    return Text(f"{movie.title} ({movie.year})" if movie.HasField("year") else movie.title)


def _genres(movie: pb.Movie) -> Text:
    return Text(", ".join(movie.genres) or "no genre listed", style="dim")


def _lines(*lines: Text) -> Text:
    return Text("\n").join(lines)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
