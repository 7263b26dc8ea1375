"""Commands for what was trained: asking it, promoting it, going back, looking at its runs."""

import os
import socket
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from training.cli.console import failing_clearly, open_console
from training.cli.options import ROOT, BundleRoot, TrackingUri
from training.errors import root_cause
from training.lock import alone, moving_pointer

app = typer.Typer()

_REGISTRY_SECONDS: Final = 10
_LOOPBACK: Final = "127.0.0.1"


class Model(StrEnum):
    """Which model answers."""

    TWO_STAGE = "two-stage"
    ALS = "als"
    SVD = "svd"
    POPULARITY = "popularity"


@app.command()
def recommend(
    *,
    user: Annotated[
        int, typer.Option(min=1, max=2**63 - 1, help="user_id; an unknown one gets what is popular.")
    ],
    n: Annotated[int, typer.Option("-n", "--limit", min=1, max=1_000, help="Movies to show.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say what moved each score most.")] = False,
    model: Annotated[Model, typer.Option(help="Which model answers.")] = Model.TWO_STAGE,
    bundle_root: Annotated[
        Path, typer.Option(help="Folder with bundles, of which the current one is asked; or one bundle.")
    ] = ROOT,
) -> None:
    """Show recommendations from a bundle, as the servers would give them."""
    from training.models.recommenders import (
        ALSRecommender,
        PopularityRecommender,
        Recommender,
        SVDRecommender,
        TwoStageRecommender,
    )
    from training.report.tables import recommendation_table

    recommenders: dict[Model, type[Recommender]] = {
        Model.TWO_STAGE: TwoStageRecommender,
        Model.ALS: ALSRecommender,
        Model.SVD: SVDRecommender,
        Model.POPULARITY: PopularityRecommender,
    }
    console = open_console()
    with failing_clearly():
        recommender = recommenders[model].load(bundle_root)
        items = recommender.recommend(user, n, explain=explain)
        console.print(recommendation_table(items, user, explain=explain))


@app.command()
def promote(
    *,
    bundle_id: Annotated[str | None, typer.Option(help="Unset: the bundle of the candidate.")] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="The one that was the champion before: the way back.")
    ] = False,
    bundle_root: BundleRoot = ROOT,
    tracking_uri: TrackingUri = None,
) -> None:
    """Make a registered bundle the champion, which `training.sync` pulls."""
    from training.release.promotion import published_last, served
    from training.release.registry import Registry, limited_requests

    if previous and bundle_id is not None:
        raise typer.BadParameter("--bundle-id and --previous name two bundles")
    open_console()
    with failing_clearly(), limited_requests(seconds=_REGISTRY_SECONDS):
        registry = Registry.open(bundle_root, tracking_uri)
        wanted = registry.previous() if previous else bundle_id
        # Looked up once: what becomes the candidate during the wait was not checked.
        chosen = (
            published_last(bundle_root, registry, tracking_uri)
            if wanted is None
            else registry.version_of(wanted)
        )
        seconds = registry.seconds_to_settle(chosen, now=time.time())
        if seconds:
            typer.echo(f"Waiting {seconds:.0f} s: servers are still taking the champion before this one")
            time.sleep(seconds)
        version, champion = registry.promote(chosen)
        typer.echo(f"Version {version} is the champion: bundle {champion}")
        typer.echo(served(bundle_root, champion))


@app.command()
def rollback(*, bundle_root: BundleRoot = ROOT, tracking_uri: TrackingUri = None) -> None:
    """Serve the previous bundle again, here and wherever the champion is served; a second one undoes it.

    It waits for nothing: servers hold both bundles.
    """
    from serving.bundle.store import BundleStore
    from training.release.registry import (
        CHAMPION,
        NothingRecordedError,
        Registry,
        RegistryError,
        limited_requests,
    )

    open_console()
    with failing_clearly(), limited_requests(seconds=_REGISTRY_SECONDS):
        with moving_pointer(bundle_root):
            pointer = BundleStore(bundle_root).roll_back(published_at=time.time())
        typer.echo(f"Back at {pointer.bundle_id}, from {pointer.previous}; servers follow within a minute")
        try:
            registry = Registry.open(bundle_root, tracking_uri)
            if registry.aliased(CHAMPION) is None:
                typer.echo("No version is the champion, so that nothing changes outside of this folder")
                return
            version, _ = registry.promote(registry.version_of(pointer.bundle_id))
        except NothingRecordedError:
            return
        except Exception as error:
            raise RegistryError(
                f"The pointer in {bundle_root} has moved, but the champion has not: {root_cause(error)}. "
                f"To be done: python -m training promote --bundle-id {pointer.bundle_id}"
            ) from error
        typer.echo(f"Version {version} is the champion: `python -m training.sync` brings it down to others")


@app.command()
def sync_runs(*, tracking_uri: TrackingUri = None, bundle_root: BundleRoot = ROOT) -> None:
    """Record runs that the local store did not take, and send those that an MLflow server did not take."""
    from training.release.tracking import send_runs, write_records

    open_console()
    status = 0
    with failing_clearly(), alone(bundle_root):
        try:
            with failing_clearly():
                typer.echo(f"{write_records(bundle_root)} runs recorded")
        except typer.Exit as told:  # what the store does not take stops nothing that it holds
            status = told.exit_code
        if tracking_uri is not None:
            typer.echo(f"{send_runs(bundle_root, tracking_uri, patient=True)} runs sent")
    raise typer.Exit(status)


@app.command()
def mlflow_ui(
    *,
    bundle_root: BundleRoot = ROOT,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="On this machine only.")] = 5_000,
) -> None:
    """Show the runs of the local store in a browser, on the loopback address, until Ctrl-C."""
    from training.release.local_store import local_store, make_ready

    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # saves a gigabyte of workers
    _require_free(port)
    with failing_clearly():
        make_ready(local_store(bundle_root))
    arguments = ["--backend-store-uri", local_store(bundle_root), "--host", _LOOPBACK, "--port", str(port)]
    typer.echo(f"http://{_LOOPBACK}:{port} shows the runs in {bundle_root}; Ctrl-C stops")
    command = [sys.executable, "-m", "mlflow", "server", *arguments, "--workers", "1"]
    os.execv(sys.executable, command)  # noqa: S606  # our own interpreter, no shell


def _require_free(port: int) -> None:
    """MLflow's server says nothing that is of use, and ends with status 0."""
    try:
        socket.create_server((_LOOPBACK, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        typer.echo(f"port {port} on {_LOOPBACK}: {reason}. --port names another", err=True)
        raise typer.Exit(1) from None
