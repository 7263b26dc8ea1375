"""The command that makes a list for every user of a bundle."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from training.cli.console import failing_clearly, open_console
from training.cli.options import ROOT, EngineChoice, EngineName
from training.lock import alone
from training.progress import Progress

app = typer.Typer()


@app.command()
def fill(
    *,
    out: Annotated[Path, typer.Option(dir_okay=False, help="Parquet file to write.")],
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Movies per list.")] = 20,
    bundle_root: Annotated[
        Path, typer.Option(help="Folder with bundles, of which the current one is asked; or one bundle.")
    ] = ROOT,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1_024, help="Processes of the local engine. Unset: one per core.")
    ] = None,
    engine: EngineChoice = EngineName.LOCAL,
) -> None:
    """Write every user's list, as the servers would give it: for mailings, caches and analysts.

    Columns user_id, movie_ids, scores, model and bundle_id. A job that was killed goes on where it was when
    it is started again, and ends with the same file.
    """
    from serving.bundle.factors import read_seen_movies
    from training.models.fill import fill as write_lists
    from training.models.fill import n_shards
    from training.models.recommenders import bundle_at

    progress = Progress(open_console())
    with failing_clearly(), alone(out.parent):
        store, bundle_id = bundle_at(bundle_root)
        n_users = len(read_seen_movies(store.folder(bundle_id, "gateway")).users)
        cores = workers or len(os.sched_getaffinity(0))
        began = time.monotonic()
        with (
            engine.open(cores) as opened,
            progress.step(f"Lists of {n_users:,} users", n_shards(n_users)) as advance,
        ):
            made = write_lists(
                store.path(bundle_id).absolute(), n_users, limit, out, engine=opened, advance=advance
            )
        rate = made / (time.monotonic() - began)
        progress.console.print(
            f"{n_users:,} lists of bundle {bundle_id} in {out}; {made:,} made now, {rate:,.0f} a second, "
            f"{rate / opened.cores:,.0f} per core"
        )
