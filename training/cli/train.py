"""The commands of the training job."""

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from serving.bundle import SETTLE_SECONDS
from serving.features.sets import FeatureSet
from serving.limits import DEFAULT_CANDIDATES
from training.cli import release, single_models
from training.cli.console import failing_clearly, open_console
from training.cli.options import (
    ROOT,
    AlsOptions,
    BundleRoot,
    DataOptions,
    DatasetTag,
    Features,
    NCandidates,
    ParamsFile,
    ProtocolChoice,
    ProtocolOption,
    RankerOptions,
    Sample,
    Seed,
    SettleSeconds,
    Threads,
    TrackingUri,
    protocols,
    recipe_of_options,
    tuning_of_options,
    with_option_groups,
)
from training.evaluation.splits import SplitProtocol
from training.lock import alone
from training.progress import Progress

app = typer.Typer(
    help="Trains movierec: from MovieLens ratings to a published bundle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_REFUSED: Final = 3
"""Exit status when the gate refuses a bundle."""


@app.command("train", help="The same as train-ranker.")
@app.command("train-ranker")
@with_option_groups
def train(
    *,
    data: DataOptions,
    bundle_root: BundleRoot = ROOT,
    sample: Sample = False,
    dataset_tag: DatasetTag = None,
    seed: Seed = 0,
    threads: Threads = 2,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    features: Features = FeatureSet.EXTENDED,
    params: ParamsFile = None,
    als: AlsOptions,
    ranker: RankerOptions,
    n_candidates: NCandidates = DEFAULT_CANDIDATES,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Keep the current bundle if it is of this data and recipe.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Publish although the gate refuses.")] = False,
    settle_seconds: SettleSeconds = SETTLE_SECONDS,
    tracking_uri: TrackingUri = None,
) -> None:
    """Train all models, measure them, train again on everything, and publish a bundle.

    A job that was killed goes on where it was when it is started again, and ends with the same bundle.
    """
    from serving.bundle.store import BundleStore
    from training.data.preparation import SAMPLE_FOLDER, prepare
    from training.jobs.run_records import two_stage_record
    from training.jobs.train import train_and_publish
    from training.publish.reuse import reusable
    from training.release.tracking import track
    from training.report.tables import bundle_table

    console = open_console()
    progress = Progress(console)
    root = bundle_root / SAMPLE_FOLDER if sample else bundle_root
    with failing_clearly(), alone(bundle_root):
        prepared = prepare(
            data.resolve(),
            bundle_root,
            sample=sample,
            dataset_tag=dataset_tag,
            console=console,
            progress=progress,
        )
        recipe = recipe_of_options(
            prepared.clean.ratings,
            params=params,
            als=als,
            ranker=ranker,
            n_candidates=n_candidates,
            features=features,
            protocol=protocol,
            seed=seed,
            threads=threads,
        )
        current = reusable(root, prepared, recipe) if reuse else None
        if current is not None:
            console.print(bundle_table(current))
            console.print(f"Reusing bundle {current.bundle_id} in {root}")
            return
        began = time.monotonic()
        # A tenth of the users is for trying the commands out: it says too little to refuse anything.
        measurement, bundle_id = train_and_publish(
            root,
            prepared,
            recipe,
            progress,
            tuning=tuning_of_options(params),
            force=force or sample,
            settle_seconds=settle_seconds,
        )
        with progress.step("Recording the runs in MLflow"):
            path = None if bundle_id is None else BundleStore(root).path(bundle_id)
            record = two_stage_record(measurement, prepared, path, sample=sample)
            track(bundle_root, record, tracking_uri)
        if bundle_id is None:
            raise typer.Exit(_REFUSED)
        seconds = f"{time.monotonic() - began:.0f} s"
        console.print(f"Published bundle {bundle_id} in {root} after {seconds}")
        report_path = BundleStore(root).path(bundle_id) / "reports" / "report.html"
        console.print(f"Report: {report_path}", soft_wrap=True)


@app.command()
@with_option_groups
def evaluate(
    *,
    data: DataOptions,
    bundle_root: BundleRoot = ROOT,
    dataset_tag: DatasetTag = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Seeds 0 to n - 1; the table shows their mean.")
    ] = 3,
    params: ParamsFile = None,
    als: AlsOptions,
    ranker: RankerOptions,
    n_candidates: NCandidates = DEFAULT_CANDIDATES,
    features: Features = FeatureSet.EXTENDED,
    protocol: Annotated[SplitProtocol | None, typer.Option(help="One protocol. Unset: both.")] = None,
    threads: Threads = 2,
    everything: Annotated[
        bool,
        typer.Option("--all", help="ALS with the reference's preset and the reference's features as well."),
    ] = False,
) -> None:
    """Measure all models on the same users, with several seeds; publish nothing.

    A job that was killed goes on where it was when it is started again.

    Of both protocols, one that the data set is too small for is left out.
    """
    from training.data.preparation import prepare
    from training.jobs.evaluate import evaluate as measure

    console = open_console()
    progress = Progress(console)
    with failing_clearly(), alone(bundle_root):
        prepared = prepare(
            data.resolve(),
            bundle_root,
            sample=False,
            dataset_tag=dataset_tag,
            console=console,
            progress=progress,
        )
        recipe = recipe_of_options(
            prepared.clean.ratings,
            params=params,
            als=als,
            ranker=ranker,
            n_candidates=n_candidates,
            features=features,
            protocol=ProtocolOption.USER,
            threads=threads,
        )
        measure(
            bundle_root,
            prepared,
            recipe,
            protocols=protocols(prepared.clean.ratings, protocol),
            seeds=range(seeds),
            progress=progress,
            variants=everything,
        )


@app.command()
@with_option_groups
def tune(
    *,
    data: DataOptions,
    bundle_root: BundleRoot = ROOT,
    sample: Sample = False,
    dataset_tag: DatasetTag = None,
    trials: Annotated[
        int, typer.Option(min=1, max=10_000, help="Per stage, those of earlier runs included.")
    ] = 30,
    minutes: Annotated[
        float, typer.Option(min=0.0, max=10_080.0, help="At the most; the trial under way ends.")
    ] = 20.0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the best. Unset: best_params.json in the root.")
    ] = None,
    features: Features = FeatureSet.EXTENDED,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    seed: Seed = 0,
    threads: Threads = 2,
    tracking_uri: TrackingUri = None,
) -> None:
    """Look for better parameters of ALS and of the ranker, on the validation part alone.

    Run again, it goes on. `train --params FILE` takes what it found.
    """
    from training.data.preparation import prepare
    from training.experiments.studies import Tuning
    from training.experiments.tuning import Bounds
    from training.experiments.tuning import tune as run_studies
    from training.jobs.run_records import tuning_record
    from training.models.job_context import JobContext
    from training.release.tracking import track

    console = open_console()
    progress = Progress(console)
    with failing_clearly(), alone(bundle_root):
        prepared = prepare(
            data.resolve(),
            bundle_root,
            sample=sample,
            dataset_tag=dataset_tag,
            console=console,
            progress=progress,
        )
        ratings = prepared.clean.ratings
        recipe = recipe_of_options(ratings, features=features, protocol=protocol, seed=seed, threads=threads)
        bounds = Bounds(
            storage=bundle_root / "tuning.db",
            name=f"{prepared.clean.digest[:16]}-{recipe.protocol}-{features}-{seed}",
            trials=trials,
            seconds=60 * minutes,
        )
        studies = run_studies(ratings, JobContext(prepared.table, recipe, progress), bounds)
        path = out or bundle_root / "best_params.json"
        Tuning(prepared.dataset_tag, studies).write(path)
        for stage, study in studies.items():
            best, defaults = study.best, study.trials[0]
            console.print(
                f"{stage}: nDCG@10 {best.ndcg:.4f} on the validation part, {defaults.ndcg:.4f} with the "
                f"defaults, after {len(study.trials)} trials: {dict(best.parameters)}",
            )
        with progress.step("Recording the runs in MLflow"):
            track(bundle_root, tuning_record(studies, prepared, recipe, path), tracking_uri)
        console.print(f"To train with them: python -m training train --params {path}")


app.add_typer(single_models.app)
app.add_typer(release.app)
