"""The commands of the training job."""

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from serving.bundle import SETTLE_SECONDS
from serving.shards import MAX_USER_SHARDS
from training.cli import fill, release, single_models
from training.cli.option_groups import with_option_groups
from training.cli.options import (
    DataOptions,
    DatasetTag,
    EngineChoice,
    EngineName,
    Features,
    JobOptions,
    ProtocolChoice,
    ProtocolOption,
    SigningKeyFile,
    Threads,
)
from training.cli.preparation import prepared_data
from training.cli.recipe_options import RecipeOptions, protocols
from training.evaluation.splits import SplitProtocol

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
    job: JobOptions,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    options: RecipeOptions,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Keep the current bundle if it is of this data and recipe.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Publish although the gate refuses.")] = False,
    settle_seconds: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=3_600.0,
            help="Least time between two bundles, as long as the servers' settle delay: else it waits.",
        ),
    ] = SETTLE_SECONDS,
    signing_key: SigningKeyFile = None,
    engine: EngineChoice = EngineName.LOCAL,
    user_shards: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_USER_SHARDS,
            help="Pieces of the bundle that users are split over, for servers that hold one each.",
        ),
    ] = 1,
) -> None:
    """Train all models, measure them, train again on everything, and publish a bundle.

    A job that was killed goes on where it was when it is started again, and ends with the same bundle.
    """
    from serving.bundle.store import BundleStore
    from training.jobs.run_records import two_stage_record
    from training.jobs.train import train_and_publish
    from training.publish.reuse import reusable
    from training.release.tracking import record_and_send, track
    from training.report.tables import bundle_table

    root = job.output_root
    with (
        prepared_data(job, sample=job.sample, dataset_tag=job.dataset_tag) as (prepared, progress),
        engine.open(options.threads) as opened,
    ):
        console = progress.console
        recipe = options.recipe(prepared.clean.ratings, protocol, seed=job.seed)
        current = reusable(root, prepared, recipe, signing_key, user_shards=user_shards) if reuse else None
        if current is not None:
            with progress.step("Recording the runs of earlier jobs in MLflow"):
                record_and_send(job.bundle_root, job.tracking_uri)
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
            tuning=options.tuning(),
            force=force or job.sample,
            settle_seconds=settle_seconds,
            key=signing_key,
            engine=opened,
            user_shards=user_shards,
        )
        with progress.step("Recording the runs in MLflow"):
            path = None if bundle_id is None else BundleStore(root).path(bundle_id)
            record = two_stage_record(measurement, prepared, path, sample=job.sample)
            track(job.bundle_root, record, job.tracking_uri)
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
    dataset_tag: DatasetTag = None,
    options: RecipeOptions,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Seeds 0 to n - 1; the table shows their mean.")
    ] = 3,
    protocol: Annotated[SplitProtocol | None, typer.Option(help="One protocol. Unset: both.")] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="ALS with the reference's preset and the reference's features as well."),
    ] = False,
) -> None:
    """Measure all models on the same users, with several seeds; publish nothing.

    A job that was killed goes on where it was when it is started again.

    Of both protocols, one that the data set is too small for is left out.
    """
    from training.jobs.evaluate import evaluate as measure

    with prepared_data(data, dataset_tag=dataset_tag) as (prepared, progress):
        measure(
            data.bundle_root,
            prepared,
            options.recipe(prepared.clean.ratings, ProtocolOption.USER),
            protocols=protocols(prepared.clean.ratings, protocol),
            seeds=range(seeds),
            progress=progress,
            variants=everything,
        )


@app.command()
@with_option_groups
def tune(
    *,
    job: JobOptions,
    trials: Annotated[
        int, typer.Option(min=1, max=10_000, help="Per stage, those of earlier runs included.")
    ] = 30,
    minutes: Annotated[
        float, typer.Option(min=0.0, max=10_080.0, help="At the most; the trial under way ends.")
    ] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Where to write the best. Unset: best_params.json in the root."),
    ] = None,
    features: Features = None,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    threads: Threads = 2,
) -> None:
    """Look for better parameters of ALS and of the ranker, on the validation part alone.

    Run again, it goes on. `train --params FILE` takes what it found.
    """
    from training.engine.local import LocalEngine
    from training.experiments.studies import Tuning, study_name
    from training.experiments.tuning import Bounds
    from training.experiments.tuning import tune as run_studies
    from training.jobs.run_records import tuning_record
    from training.models.job_context import JobContext
    from training.release.tracking import track

    with prepared_data(job, sample=job.sample, dataset_tag=job.dataset_tag) as (prepared, progress):
        ratings, console = prepared.clean.ratings, progress.console
        path = out or job.output_root / "best_params.json"
        path.parent.mkdir(parents=True, exist_ok=True)  # what cannot be made must not end the search
        recipe = RecipeOptions(features=features, threads=threads).recipe(ratings, protocol, seed=job.seed)
        bounds = Bounds(
            storage=job.bundle_root / "tuning.db",
            name=study_name(prepared.inputs, prepared.clean.digest, recipe),
            trials=trials,
            seconds=60 * minutes,
        )
        context = JobContext(prepared.table, recipe, progress, LocalEngine(threads))
        studies = run_studies(ratings, context, bounds)
        Tuning(prepared.dataset_tag, studies).write(path)
        for stage, study in studies.items():
            best, defaults = study.best, study.trials[0]
            console.print(
                f"{stage}: nDCG@10 {best.ndcg:.4f} on the validation part, {defaults.ndcg:.4f} with the "
                f"defaults, after {len(study.trials)} trials: {dict(best.parameters)}",
            )
        with progress.step("Recording the runs in MLflow"):
            track(job.bundle_root, tuning_record(studies, prepared, recipe, path), job.tracking_uri)
        console.print(f"To train with them: python -m training train --params {path}")


app.add_typer(single_models.app)
app.add_typer(release.app)
app.add_typer(fill.app)
