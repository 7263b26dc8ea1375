"""The commands of the training job."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer

from serving.bundle.manifest import Manifest
from serving.bundle.store import SETTLE_SECONDS, BundleStore
from serving.features.sets import FeatureSet
from training.checkpoints import Work, forget
from training.cli import release, single_models
from training.cli.console import before_publication, failing_clearly, open_console
from training.cli.options import (
    ROOT,
    Alpha,
    AlsIterations,
    BundleRoot,
    ConfidenceMode,
    DataDir,
    DatasetTag,
    Depth,
    Factors,
    Features,
    LearningRate,
    MaxRankerUsers,
    Negatives,
    ParamsFile,
    Preset,
    PresetOption,
    ProtocolChoice,
    ProtocolOption,
    RankerIterations,
    Regularization,
    RelevanceThreshold,
    Sample,
    Seed,
    SettleSeconds,
    Threads,
    TrackingUri,
    recipe_of_options,
    tuning_of_options,
)
from training.cli.tables import print_measurements, print_strong, quality_table
from training.data.preparation import SAMPLE_FOLDER, Prepared, prepare
from training.evaluation.splits import Protocol
from training.experiments.experiment import Measurement, measure, measure_seeds
from training.experiments.held_out_users import strong_generalisation
from training.experiments.studies import Study, Tuning
from training.experiments.tuning import Bounds
from training.experiments.tuning import tune as run_studies
from training.lock import alone
from training.models.ranker_groups import TooFewUsersError
from training.models.recipe import Recipe
from training.models.two_stage import fit_two_stage
from training.progress import Progress
from training.publish.gate import pass_gate
from training.publish.publish import LIBRARIES, Build, publish, recipe_record
from training.publish.reuse import reusable
from training.release.registry import BUNDLE_TAG
from training.release.run_record import RunRecord
from training.release.tracking import track
from training.report.report import Subject, render_report

app = typer.Typer(
    help="Trains movierec: from MovieLens ratings to a published bundle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_REFUSED: Final = 3
"""Exit status when the gate refuses a bundle."""


@app.command("train", help="The same as train-ranker.")
@app.command("train-ranker")
def train(
    *,
    data_dir: DataDir = None,
    bundle_root: BundleRoot = ROOT,
    sample: Sample = False,
    dataset_tag: DatasetTag = None,
    seed: Seed = 0,
    threads: Threads = 2,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    features: Features = FeatureSet.EXTENDED,
    params: ParamsFile = None,
    preset: PresetOption = Preset.DEFAULT,
    als_factors: Factors = None,
    als_iterations: AlsIterations = None,
    als_regularization: Regularization = None,
    als_alpha: Alpha = None,
    als_confidence_mode: ConfidenceMode = None,
    iterations: RankerIterations = None,
    learning_rate: LearningRate = None,
    depth: Depth = None,
    relevance_threshold: RelevanceThreshold = None,
    negatives: Negatives = None,
    max_ranker_users: MaxRankerUsers = None,
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
    console = open_console()
    progress = Progress(console)
    root = bundle_root / SAMPLE_FOLDER if sample else bundle_root
    with failing_clearly(), alone(bundle_root):
        prepared = prepare(
            data_dir, bundle_root, sample=sample, dataset_tag=dataset_tag, console=console, progress=progress
        )
        recipe = recipe_of_options(
            prepared.clean.ratings,
            preset=preset,
            params=params,
            als={
                "factors": als_factors,
                "iterations": als_iterations,
                "regularization": als_regularization,
                "alpha": als_alpha,
                "confidence": als_confidence_mode,
            },
            ranker={
                "iterations": iterations,
                "learning_rate": learning_rate,
                "depth": depth,
                "relevance_threshold": relevance_threshold,
                "negatives": negatives,
                "max_users": max_ranker_users,
            },
            features=features,
            protocol=protocol,
            seed=seed,
            threads=threads,
        )
        current = reusable(root, prepared, recipe) if reuse else None
        if current is not None:
            console.print(quality_table(current.metrics, _caption(current)))
            console.print(f"Reusing bundle {current.bundle_id} in {root}")
            return
        began = time.monotonic()
        # A tenth of the users is for trying the commands out: it says too little to refuse anything.
        measurement, bundle_id = _train(
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
            record = _run_record(measurement, prepared, path, sample=sample)
            track(bundle_root, record, tracking_uri)
        if bundle_id is None:
            raise typer.Exit(_REFUSED)
        seconds = f"{time.monotonic() - began:.0f} s"
        console.print(f"Published bundle {bundle_id} in {root} after {seconds}")
        report_path = BundleStore(root).path(bundle_id) / "reports" / "report.html"
        console.print(f"Report: {report_path}", soft_wrap=True)


@before_publication()
def _train(
    root: Path,
    prepared: Prepared,
    recipe: Recipe,
    progress: Progress,
    *,
    tuning: Tuning | None,
    force: bool,
    settle_seconds: float,
) -> tuple[Measurement, str | None]:
    """Measures, asks the gate, trains on everything and publishes.

    Returns:
        The measurement, and the bundle_id; None when the gate refused.
    """
    console, store = progress.console, BundleStore(root)
    clean, table = prepared.clean, prepared.table
    work = Work.of(
        root,
        prepared.inputs,
        clean.digest,
        repr(recipe),
        *(f"{name} {version(name)}" for name in LIBRARIES),
    )
    progress.enter("past", "Measuring: trained on the past, judged on the future")
    measurement = measure(clean.ratings, table, recipe, progress, validate=True, work=work.part("past"))
    print_measurements(console, [measurement], prepared.dataset_tag)
    progress.enter("gate", "Asking the gate")
    evaluation, verdict = pass_gate(store, measurement, clean, table, progress, work=work)
    console.print(f"Gate: {verdict.remark}")
    for refusal in verdict.refusals:
        console.print(f"Gate: {'overridden' if force else 'refused'}: {refusal}")
    if verdict.refusals and not force:
        console.print("Nothing was published; what is served stays. --force publishes it all the same")
        return measurement, None
    progress.enter("all", "Training what is served: the same recipe on all ratings")
    two_stage = fit_two_stage(
        clean.ratings, table, measurement.recipe, progress, measurement.choice, work=work.part("all")
    )
    if not two_stage.stage.served_users().size:
        raise TooFewUsersError(
            "nobody can be recommended anything: each user whose taste is known has rated every movie"
        )
    with progress.step("Report"):
        subject = Subject(
            dataset_tag=prepared.dataset_tag, source=prepared.source, table=table, cleaning=clean.counts
        )
        report = render_report(subject, measurement, two_stage, tuning, verdict)
    build = Build(
        two_stage=two_stage,
        table=table,
        recipe=measurement.recipe,
        dataset_tag=prepared.dataset_tag,
        metrics={model: quality.means() for model, quality in measurement.qualities.items()},
        evaluation=evaluation,
        report=report,
    )
    bundle_id = publish(root, build, progress, settle_seconds=settle_seconds)
    forget(root)
    return measurement, bundle_id


@app.command()
def evaluate(
    *,
    data_dir: DataDir = None,
    bundle_root: BundleRoot = ROOT,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Seeds 0 to n - 1; the table shows their mean.")
    ] = 3,
    params: ParamsFile = None,
    preset: PresetOption = Preset.DEFAULT,
    features: Features = FeatureSet.EXTENDED,
    protocol: Annotated[Protocol | None, typer.Option(help="One protocol. Unset: both.")] = None,
    threads: Threads = 2,
    everything: Annotated[
        bool,
        typer.Option("--all", help="ALS with the reference's preset and the reference's features as well."),
    ] = False,
) -> None:
    """Measure all models on the same users, with several seeds; publish nothing.

    Of both protocols, one that the data set is too small for is left out.
    """
    console = open_console()
    progress = Progress(console)
    with failing_clearly(), alone(bundle_root):
        prepared = prepare(
            data_dir, bundle_root, sample=False, dataset_tag=None, console=console, progress=progress
        )
        clean, table = prepared.clean, prepared.table
        recipe = recipe_of_options(
            clean.ratings,
            preset=preset,
            params=params,
            features=features,
            protocol=ProtocolOption.USER,
            threads=threads,
        )
        measured: list[list[Measurement]] = []
        for one in (protocol,) if protocol else Protocol:
            console.print(f"Measuring under '{one}'")
            by_protocol = replace(recipe, protocol=one)
            try:
                runs = measure_seeds(
                    clean.ratings, table, by_protocol, range(seeds), progress, variants=everything
                )
            except TooFewUsersError as error:
                if one is protocol or one is Protocol.USER:  # which suits the smallest data sets
                    raise
                console.print(f"  left out: {error}")
            else:
                measured.append(runs)
        strong = strong_generalisation(
            clean.ratings,
            len(table.movies.ids),
            measured[0][0].recipe.als,
            measured[0][0].ease_ndcg,
            seed=0,
            threads=threads,
            progress=progress,
        )
        for runs in measured:
            print_measurements(console, runs, prepared.dataset_tag)
        print_strong(console, strong)


@app.command()
def tune(
    *,
    data_dir: DataDir = None,
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
    console = open_console()
    progress = Progress(console)
    with failing_clearly(), alone(bundle_root):
        prepared = prepare(
            data_dir, bundle_root, sample=sample, dataset_tag=dataset_tag, console=console, progress=progress
        )
        ratings = prepared.clean.ratings
        recipe = recipe_of_options(ratings, features=features, protocol=protocol, seed=seed, threads=threads)
        bounds = Bounds(
            storage=bundle_root / "tuning.db",
            name=f"{prepared.clean.digest[:16]}-{recipe.protocol}-{features}-{seed}",
            trials=trials,
            seconds=60 * minutes,
        )
        studies = run_studies(ratings, prepared.table, recipe, bounds, progress)
        path = out or bundle_root / "best_params.json"
        Tuning(prepared.dataset_tag, studies).write(path)
        for stage, study in studies.items():
            best, defaults = study.best, study.trials[0]
            console.print(
                f"{stage}: nDCG@10 {best.ndcg:.4f} on the validation part, {defaults.ndcg:.4f} with the "
                f"defaults, after {len(study.trials)} trials: {dict(best.parameters)}",
            )
        with progress.step("Recording the runs in MLflow"):
            track(bundle_root, _tuning_record(studies, prepared, recipe, path), tracking_uri)
        console.print(f"To train with them: python -m training train --params {path}")


app.add_typer(single_models.app)
app.add_typer(release.app)


def _caption(manifest: Manifest) -> str:
    recipe = manifest.recipe
    return (
        f"{manifest.dataset_tag}, protocol '{recipe['protocol']}', features '{recipe['feature_set']}', "
        f"seed {recipe['seed']}, ranker {recipe['ranker_loss']} with {recipe['ranker_trees']} trees"
    )


def _run_record(
    measurement: Measurement, prepared: Prepared, bundle: Path | None, *, sample: bool
) -> RunRecord:
    """The two-stage run, with a nested one for each other model."""
    recipe, choice = measurement.recipe, measurement.choice
    tags = {
        "dataset_tag": prepared.dataset_tag,
        "sample": str(sample).lower(),
        "published": str(bundle is not None).lower(),
    }
    if bundle is not None:
        tags[BUNDLE_TAG] = bundle.name
    chosen: dict[str, str | int] = {"ranker_loss": choice.loss, "ranker_trees": choice.iterations}
    nested = tuple(
        RunRecord(
            experiment="two_stage_ranker",
            name=model,
            parameters={"seed": recipe.seed, **(asdict(recipe.als) if model == "als" else {})},
            metrics=_metrics(measurement, model),
            tags=tags | {"model": model},
        )
        for model in measurement.qualities
        if model != "two_stage"
    )
    return RunRecord(
        experiment="two_stage_ranker",
        name=f"two_stage on {prepared.dataset_tag}",
        parameters={**recipe_record(recipe), **chosen, "dataset_tag": prepared.dataset_tag},
        metrics=_metrics(measurement, "two_stage"),
        tags=tags | {"model": "two_stage", "groups": str(measurement.groups)},
        artifacts=() if bundle is None else _pages_and_tables(bundle),
        bundle=None if sample else bundle,
        nested=nested,
    )


def _pages_and_tables(bundle: Path) -> tuple[Path, ...]:
    """What a bundle holds for people: nothing relies on it, and somebody may have removed it."""
    return tuple(sorted(path for name in ("exports/*", "reports/report.html") for path in bundle.glob(name)))


def _tuning_record(studies: Mapping[str, Study], prepared: Prepared, recipe: Recipe, path: Path) -> RunRecord:
    nested = tuple(
        RunRecord(
            experiment="tuning",
            name=f"{stage} {trial.number}",
            parameters=dict(trial.parameters),
            metrics={"val_ndcg_at_10": trial.ndcg},
            tags={"model": stage, "dataset_tag": prepared.dataset_tag},
        )
        for stage, study in studies.items()
        for trial in study.trials
    )
    best = {
        f"{stage}_{name}": value
        for stage, study in studies.items()
        for name, value in study.best.parameters.items()
    }
    return RunRecord(
        experiment="tuning",
        name=f"tuning on {prepared.dataset_tag}",
        parameters={
            "dataset_tag": prepared.dataset_tag,
            "protocol": recipe.protocol,
            "seed": recipe.seed,
            **best,
        },
        metrics={f"val_{stage}_ndcg_at_10": study.best.ndcg for stage, study in studies.items()},
        tags={"dataset_tag": prepared.dataset_tag},
        artifacts=(path,),
        nested=nested,
    )


def _metrics(measurement: Measurement, model: str) -> dict[str, float]:
    """A model's means by name, as `val_ndcg_at_10` and `test_ndcg_at_10`."""
    return {
        f"{part}_{name}": mean
        for part, qualities in (("val", measurement.validation), ("test", measurement.qualities))
        if model in qualities
        for name, mean in qualities[model].means().items()
    }
