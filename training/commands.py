"""The commands of the training job."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from serving.bundle.manifest import Manifest
from serving.bundle.store import BundleError, BundleStore
from serving.features import FEATURE_NAMES, FeatureSet, feature_hash
from serving.logs import configure_logs
from serving.ratings import Ratings
from serving.settings import LogLevel
from training import datasets
from training.experiment import Measurement, measure, measure_seeds, production_protocol
from training.models.als import REFERENCE_PARAMETERS, default_parameters
from training.models.ranker import RankerParameters
from training.models.two_stage import Recipe, TooFewUsersError, fit_two_stage
from training.progress import Progress
from training.publish import Build, publish, recipe_record
from training.ratings import DataError, read_data_set
from training.report import Subject, render_report
from training.splits import Protocol
from training.strong import strong_generalisation
from training.tables import print_measurements, print_strong, quality_table
from training.tracking import track

app = typer.Typer(
    help="Trains movierec: from MovieLens ratings to a published bundle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Preset(StrEnum):
    """Parameters of ALS."""

    DEFAULT = "default"
    """Likes weigh; regularised for the size of the data set."""
    REFERENCE = "reference"
    """The reference's, for comparison."""


class ProtocolOption(StrEnum):
    """How the future is cut off, in evaluation and for the ranker's labels alike."""

    AUTO = "auto"
    """`time` where it leaves at least 300 users to learn from and to judge by, else `user`."""
    USER = "user"
    TIME = "time"


DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar=datasets.DATA_DIR_VARIABLE,
        help="Folder of a MovieLens data set. Unset: data/ml-latest-small, else a download, else a sample.",
    ),
]
BundleRoot = Annotated[Path, typer.Option(help="Directory of the bundles and the pointer.")]
Seed = Annotated[int, typer.Option(min=0, help="Of every random choice: equal seeds, equal bundles.")]
PresetOption = Annotated[Preset, typer.Option(help="Parameters of ALS.")]
Features = Annotated[FeatureSet, typer.Option(help="What the ranker sees.")]
ProtocolChoice = Annotated[ProtocolOption, typer.Option(help="How the future is cut off.")]
Threads = Annotated[int, typer.Option(min=1, help="Of ALS and CatBoost. Another number, another bundle.")]


@app.command()
def train(
    *,
    data_dir: DataDir = None,
    bundle_root: BundleRoot = Path("artifacts"),
    seed: Seed = 0,
    preset: PresetOption = Preset.DEFAULT,
    features: Features = FeatureSet.EXTENDED,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    threads: Threads = 2,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Keep the current bundle if it is of this data and recipe.")
    ] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow server. Unset: a local store.")
    ] = None,
) -> None:
    """Train all models, measure them, train again on everything, and publish a bundle."""
    console = _console()
    with _failing_clearly(), _alone(bundle_root):
        dataset = datasets.resolve(data_dir)
        console.print(f"Data set: {dataset.source}", highlight=False)
        progress = Progress(console)
        with progress.step("Reading and checking ratings"):
            table, clean = read_data_set(dataset.folder)
        tag = clean.tag(dataset.name)
        console.print(
            f"{tag}: {len(clean.ratings):,} ratings, {len(clean.ratings.users):,} users", highlight=False
        )
        recipe = _recipe(
            clean.ratings, seed=seed, preset=preset, features=features, protocol=protocol, threads=threads
        )
        current = _current(bundle_root) if reuse else None
        if current is not None and _is_of(current, tag, recipe):
            console.print(quality_table(current.metrics, _caption(current)))
            console.print(f"Reusing bundle {current.bundle_id} in {bundle_root}", highlight=False)
            return
        began = time.monotonic()
        console.print("Measuring: trained on the past, judged on the future")
        measurement = measure(clean.ratings, table, recipe, progress, validate=True)
        print_measurements(console, [measurement], tag)
        console.print("Training what is served: the same recipe on all ratings")
        two_stage = fit_two_stage(clean.ratings, table, recipe, progress, measurement.choice)
        with progress.step("Report"):
            subject = Subject(dataset_tag=tag, source=dataset.source, table=table, cleaning=clean.counts)
            report = render_report(subject, measurement, two_stage)
        build = Build(
            two_stage=two_stage,
            table=table,
            recipe=recipe,
            dataset_tag=tag,
            metrics={model: quality.means() for model, quality in measurement.qualities.items()},
            report=report,
        )
        bundle_id = publish(bundle_root, build, progress)
        with progress.step("Recording the runs in MLflow"):
            track(
                measurement, dataset_tag=tag, bundle_id=bundle_id, root=bundle_root, tracking_uri=tracking_uri
            )
        seconds = f"{time.monotonic() - began:.0f} s"
        console.print(f"Published bundle {bundle_id} in {bundle_root} after {seconds}", highlight=False)
        report_path = BundleStore(bundle_root).path(bundle_id) / "reports" / "report.html"
        console.print(f"Report: {report_path}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    *,
    data_dir: DataDir = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to n - 1; the table shows their mean.")] = 3,
    preset: PresetOption = Preset.DEFAULT,
    features: Features = FeatureSet.EXTENDED,
    protocol: Annotated[Protocol | None, typer.Option(help="One protocol. Unset: both.")] = None,
    threads: Threads = 2,
    everything: Annotated[
        bool,
        typer.Option("--all", help="ALS with the reference's preset and the reference's features as well."),
    ] = False,
) -> None:
    """Measure all models on the same users, with several seeds; publish nothing."""
    console = _console()
    with _failing_clearly():
        dataset = datasets.resolve(data_dir)
        console.print(f"Data set: {dataset.source}", highlight=False)
        table, clean = read_data_set(dataset.folder)
        progress, tag = Progress(console), clean.tag(dataset.name)
        recipe = _recipe(
            clean.ratings,
            seed=0,
            preset=preset,
            features=features,
            protocol=ProtocolOption.USER,
            threads=threads,
        )
        measured: list[list[Measurement]] = []
        for one in (protocol,) if protocol else Protocol:
            console.print(f"Measuring under '{one}'", highlight=False)
            by_protocol = replace(recipe, protocol=one)
            measured.append(
                measure_seeds(clean.ratings, table, by_protocol, range(seeds), progress, variants=everything)
            )
        strong = strong_generalisation(
            clean.ratings,
            len(table.movies.ids),
            recipe.als,
            measured[0][0].ease_ndcg,
            seed=0,
            threads=threads,
            progress=progress,
        )
        for runs in measured:
            print_measurements(console, runs, tag)
        print_strong(console, strong)


@app.command()
def rollback(*, bundle_root: BundleRoot = Path("artifacts")) -> None:
    """Serve the previous bundle again; a second rollback undoes it."""
    with _failing_clearly(), _alone(bundle_root):
        pointer = BundleStore(bundle_root).roll_back(published_at=time.time())
        typer.echo(f"Serving bundle {pointer.bundle_id}; the previous one is {pointer.previous}")


def _console() -> Console:
    configure_logs("training", LogLevel.WARNING)
    # Where there is no terminal to ask: wide enough for the table.
    return Console(width=None if sys.stdout.isatty() else 110)


def _recipe(
    ratings: Ratings,
    *,
    seed: int,
    preset: Preset,
    features: FeatureSet,
    protocol: ProtocolOption,
    threads: int,
) -> Recipe:
    return Recipe(
        als=REFERENCE_PARAMETERS if preset is Preset.REFERENCE else default_parameters(len(ratings.users)),
        ranker=RankerParameters(),
        feature_set=features,
        protocol=production_protocol(ratings) if protocol is ProtocolOption.AUTO else Protocol(protocol),
        seed=seed,
        threads=threads,
    )


def _current(bundle_root: Path) -> Manifest | None:
    store = BundleStore(bundle_root)
    try:
        return store.manifest(store.pointer().bundle_id)
    except BundleError:
        return None


def _is_of(manifest: Manifest, dataset_tag: str, recipe: Recipe) -> bool:
    """Whether this version would train the same again."""
    return (
        manifest.dataset_tag == dataset_tag
        and manifest.features.hash == feature_hash(FEATURE_NAMES[recipe.feature_set])
        and recipe_record(recipe).items() <= manifest.recipe.items()
    )


def _caption(manifest: Manifest) -> str:
    recipe = manifest.recipe
    return (
        f"{manifest.dataset_tag}, protocol '{recipe['protocol']}', features '{recipe['feature_set']}', "
        f"seed {recipe['seed']}, ranker {recipe['ranker_loss']} with {recipe['ranker_trees']} trees"
    )


@contextmanager
def _alone(bundle_root: Path) -> Iterator[None]:
    """Holds the job's lock: two jobs in one folder would undo each other's work."""
    bundle_root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(bundle_root / ".training.lock", timeout=0):
            yield
    except Timeout:
        typer.echo(f"Another training job is at work in {bundle_root}.", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """Failures that a person can mend are said in words, not as a traceback."""
    try:
        yield
    except (BundleError, DataError, TooFewUsersError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
