"""Measuring a recipe under several protocols and with several seeds; nothing is published."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.checkpoints import Checkpoints
from training.data.preparation import Prepared
from training.engine.local import LocalEngine
from training.evaluation.splits import SplitProtocol
from training.experiments.experiment import Measurement, measure
from training.experiments.held_out_users import strong_generalisation
from training.models.job_context import JobContext
from training.models.ranker_groups import TooFewUsersError
from training.models.recipe import Recipe
from training.progress import Progress
from training.report.tables import print_held_out_users, print_measurements


def evaluate(
    root: Path,
    prepared: Prepared,
    recipe: Recipe,
    *,
    protocols: Sequence[SplitProtocol],
    seeds: Sequence[int],
    progress: Progress,
    variants: bool,
) -> None:
    """Measures, and prints the table of each protocol as soon as it is measured.

    One that was killed goes on where it was: what was fitted before is kept in `root` until the end, and not
    fitted again. Of the protocols, a later one that the data are too few for is left out.

    Raises:
        TooFewUsersError: the data are too few for the first protocol.
    """
    clean, console = prepared.clean, progress.console
    checkpoints = Checkpoints.of(root, "evaluate", prepared.inputs, clean.digest, repr(recipe))
    job = JobContext(prepared.table, recipe, progress, LocalEngine(recipe.threads), checkpoints)
    first: Measurement | None = None
    for protocol in protocols:
        console.print(f"Measuring under '{protocol}'")
        part = job.part(protocol).with_recipe(protocol=protocol)
        try:
            runs = [
                measure(clean.ratings, part.part(f"seed-{seed}").with_recipe(seed=seed), variants=variants)
                for seed in seeds
            ]
        except TooFewUsersError as error:
            if first is None:
                raise
            console.print(f"  left out: {error}")
            continue
        print_measurements(console, runs, prepared.dataset_tag)
        first = first or runs[0]
    if first is not None:
        found = strong_generalisation(clean.ratings, replace(job, recipe=first.recipe), first.ease_ndcg)
        print_held_out_users(console, found, first.recipe)
    checkpoints.forget()
