"""What reasons cost at p50: `python -m benchmarks.explaining --help`.

Real processes and gRPC: a candidate server, a ranking server and a gateway before them, one request in
flight. Each user is asked for the same page without and with reasons, one right after the other.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Final

import numpy as np
import typer
import uvloop
from rich.progress import track
from rich.table import Table

from benchmarks.servers import serving, serving_stages, settings_of, targets_of, users_of
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.rpc.channels import open_channel
from training.cli.terminal import Terminal

_PAGE: Final = 20
_WARM_UP_USERS: Final = 50
_ANSWER_SECONDS: Final = 10.0
_PLAIN: Final = "a page of 20"
_PAGES: Final[Mapping[str, pb.ListPersonalMoviesRequest]] = {
    _PLAIN: pb.ListPersonalMoviesRequest(limit=_PAGE),
    "explained, 3 features each": pb.ListPersonalMoviesRequest(limit=_PAGE, explain_features=3),
    "100 movies, all features each": pb.ListPersonalMoviesRequest(limit=100, explain_features=100),
    "because of 3 likes each": pb.ListPersonalMoviesRequest(limit=_PAGE, because_of=3),
}
_WHY: Final = "why one movie is in it or not"


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of a published bundle.")],
    users: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Users to ask for; all in turn, from the start again.")
    ] = 1500,
) -> None:
    """Measures and prints how much longer an answer takes, compared for each user."""
    console = Terminal()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory()))
        settings = settings_of("gateway", bundle_root, **targets_of(serving_stages(stack, bundle_root, logs)))
        gateway = stack.enter_context(serving("gateway", logs / "gateway.log", settings))
        asked = list(islice(cycle(users_of(bundle_root)), users + _WARM_UP_USERS))
        seconds = uvloop.run(_ask(gateway.target, asked, console))
    console.print(_table({name: times[_WARM_UP_USERS:] for name, times in seconds.items()}))


async def _ask(target: str, users: Sequence[int], console: Terminal) -> dict[str, list[float]]:
    """Seconds of each answer, by what was asked, in the order of users."""
    seconds: dict[str, list[float]] = {name: [] for name in (*_PAGES, _WHY)}
    async with open_channel(target) as channel:
        stub = MovieServiceStub(channel)
        for user_id in track(users, "Asking", console=console, transient=True):
            page = pb.ListPersonalMoviesResponse()
            for name, request in _PAGES.items():
                request.user_id = user_id
                began = perf_counter()
                page = await stub.ListPersonalMovies(request, timeout=_ANSWER_SECONDS)
                seconds[name].append(perf_counter() - began)
            question = pb.WhyMovieRequest(
                movie_id=page.movies[-1].movie.movie_id, user_id=user_id, limit=_PAGE // 2
            )
            began = perf_counter()
            await stub.WhyMovie(question, timeout=_ANSWER_SECONDS)
            seconds[_WHY].append(perf_counter() - began)
    return seconds


def _table(seconds: Mapping[str, Sequence[float]]) -> Table:
    table = Table(title="Milliseconds at p50, one request in flight; more: of the same user's plain page")
    for heading in ("answer", "p50", "more at p50"):
        table.add_column(heading, justify="left" if heading == "answer" else "right")
    plain = np.array(seconds[_PLAIN])
    for name, times in seconds.items():
        more = "" if name == _PLAIN else f"{np.median(np.array(times) - plain) * 1_000:+.2f}"
        table.add_row(name, f"{np.median(times) * 1_000:.2f}", more)
    return table


if __name__ == "__main__":
    typer.run(main)
