"""Training what is served: measured first, and published if the gate lets it pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from catboost import CatBoostError

from serving.bundle.manifest import QualityRecord
from serving.bundle.signature import SigningKey
from serving.bundle.store import BundleError, BundleStore
from serving.bundle.trial import try_loading
from training.checkpoints import Checkpoints
from training.data.preparation import Prepared
from training.engine.engine import Engine
from training.evaluation.judging import interval
from training.experiments.experiment import Measurement, measure
from training.experiments.studies import Tuning
from training.models.job_context import JobContext
from training.models.ranker_groups import TooFewUsersError
from training.models.recipe import Recipe
from training.models.two_stage import fit_two_stage
from training.progress import Progress
from training.publish.gate import pass_gate
from training.publish.publish import Build, publish
from training.report.findings import warnings_of
from training.report.report import render_report
from training.report.tables import print_measurements

SERVER_LOADERS: Final = (
    "candidate_service.retrieval:Retriever.load",
    "ranking_service.ranking:Ranker.load",
    "similarity_service.neighbours:SimilarityIndex.load",
    "gateway.lists.catalogue:Catalogue.load",
)
"""By name: a process of its own imports them, and nothing of this one depends on servers."""


@contextmanager
def _before_publication() -> Iterator[None]:
    """Adds to a failure, that of a full disk most of all, that it left what is served as it was."""
    try:
        yield
    except (BundleError, CatBoostError, MemoryError, OSError) as error:
        error.add_note("Nothing was published; what is served stays")
        raise


@_before_publication()
def train_and_publish(
    root: Path,
    prepared: Prepared,
    recipe: Recipe,
    progress: Progress,
    *,
    tuning: Tuning | None,
    force: bool,
    settle_seconds: float,
    key: SigningKey | None,
    engine: Engine,
    user_shards: int,
) -> tuple[Measurement, str | None]:
    """Measures, asks the gate, trains on everything and publishes.

    Returns:
        The measurement, and the bundle_id; None when the gate refused.
    """
    console, store = progress.console, BundleStore(root)
    clean, table = prepared.clean, prepared.table
    checkpoints = Checkpoints.of(root, "train", prepared.inputs, clean.digest, repr(recipe))
    job = JobContext(table, recipe, progress, engine, checkpoints)
    progress.enter("past", "Measuring: trained on the past, judged on the future")
    measurement = measure(clean.ratings, job.part("past"), validate=True)
    print_measurements(console, [measurement], prepared.dataset_tag)
    progress.enter("gate", "Asking the gate")
    evaluation, verdict = pass_gate(store, measurement, clean.ratings, job)
    console.print(f"Gate: {verdict.remark}")
    for refusal in verdict.refusals:
        console.print(f"Gate: {'overridden' if force else 'refused'}: {refusal}")
    if verdict.refusals and not force:
        console.print("Nothing was published; what is served stays. --force publishes it all the same")
        return measurement, None
    progress.enter("all", "Training what is served: the same recipe on all ratings")
    chosen = replace(job.part("all"), recipe=measurement.recipe)
    two_stage = fit_two_stage(clean.ratings, chosen, measurement.choice)
    if not two_stage.stage.served_users().size:
        raise TooFewUsersError(
            "nobody can be recommended anything: each user whose taste is known has rated every movie"
        )
    with progress.step("Report"):
        report = render_report(prepared, measurement, two_stage, tuning, verdict)
    build = Build(
        two_stage=two_stage,
        table=table,
        recipe=measurement.recipe,
        dataset_tag=prepared.dataset_tag,
        metrics={model: quality.means() for model, quality in measurement.qualities.items()},
        quality=_quality_record(measurement),
        evaluation=evaluation,
        report=report,
        user_shards=user_shards,
    )

    def load_as_servers_do(store: BundleStore, bundle_id: str) -> None:
        with progress.step("Loading the bundle as each server does"):
            try_loading(SERVER_LOADERS, store, bundle_id)

    bundle_id = publish(
        root, build, progress, settle_seconds=settle_seconds, key=key, check=load_as_servers_do
    )
    checkpoints.forget()
    return measurement, bundle_id


def _quality_record(measurement: Measurement) -> QualityRecord:
    """How sure the measurement is, for whoever reads the manifest."""
    per_user = {model: quality.per_user["ndcg_at_10"] for model, quality in measurement.qualities.items()}
    return QualityRecord(
        judged_users=measurement.judged_users,
        ndcg_at_10={model: interval(values) for model, values in per_user.items() if values.size},
        warnings=tuple(warnings_of([measurement])),
    )
