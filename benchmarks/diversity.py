"""What `diversity` of requests costs in quality: `python -m benchmarks.diversity --help`."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.table import Table

from ranking_service.diversity import diversified
from serving.ids import Rows
from training.cli.option_groups import with_option_groups
from training.cli.options import DataOptions, ProtocolOption
from training.cli.recipe_options import RecipeOptions
from training.cli.terminal import Terminal
from training.data.preparation import prepare
from training.engine.local import LocalEngine
from training.evaluation.judging import judge, lift_of
from training.evaluation.profiles import CUTOFF, profile_of
from training.evaluation.splits import judged_split
from training.experiments.source_weights import choose_source_weights
from training.models.job_context import JobContext
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss
from training.models.two_stage import TwoStage, fit_two_stage
from training.progress import Progress

_DIVERSITIES: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
_CHOICE: Final = RankerChoice(loss=Loss.LOGLOSS, iterations=300, validation_ndcg={})


@with_option_groups
def main(
    *,
    data: DataOptions,
    trees: Annotated[int, typer.Option(min=1, help="Of the ranker, with Logloss.")] = _CHOICE.iterations,
) -> None:
    """Trains on the past, with the first λ of the grid, and judges lists for each diversity."""
    console = Terminal()
    progress = Progress(console)
    with TemporaryDirectory() as folder:
        prepared = prepare(data.resolve(), Path(folder), sample=False, dataset_tag=None, progress=progress)
    recipe = RecipeOptions().recipe(prepared.clean.ratings, ProtocolOption.USER)
    judged = judged_split(prepared.clean.ratings, recipe.protocol)
    job = JobContext(prepared.table, recipe, progress, LocalEngine(2))
    sources = choose_source_weights(judged.train, job).chosen
    job = job.with_recipe(sources=sources)
    two_stage = fit_two_stage(judged.train, job, replace(_CHOICE, iterations=trees), users=judged.users)
    scored = [_scored(two_stage, user_row) for user_row in judged.users.tolist()]
    table = Table("diversity", "nDCG@10", "over 0: paired 95 % interval", "coverage", "novelty", "overlap",
                  "miscalibration")  # fmt: skip
    before: npt.NDArray[np.float64] | None = None
    for diversity in _DIVERSITIES:
        lists = [_diversified(two_stage, rows, scores, diversity) for rows, scores in scored]
        quality = judge(lists, judged, candidates=recipe.n_candidates)
        profile = profile_of(lists, judged, prepared.table.movies)
        ndcg, means = quality.per_user["ndcg_at_10"], quality.means()
        before = ndcg if before is None else before
        over = lift_of(ndcg, before, model=f"diversity {diversity:g}", over="diversity 0")
        table.add_row(
            f"{diversity:g}",
            f"{ndcg.mean():.4f}",
            f"{over.mean:+.4f} [{over.low:+.4f}, {over.high:+.4f}]",
            f"{means['coverage_at_10']:.3f}",
            f"{means['novelty_at_10']:.3f}",
            f"{profile.overlap:.3f}",
            f"{profile.miscalibration:.3f}",
        )
    console.print(table)


def _scored(two_stage: TwoStage, user_row: int) -> tuple[Rows, npt.NDArray[np.float64]]:
    """One user's candidates in ascending row, and the ranker's scores of them."""
    (found,) = two_stage.stage.candidates(np.array([user_row], np.int32))
    scores = two_stage.scores(two_stage.stage.features([user_row], [found]))
    order = np.argsort(found.movie_rows)
    return found.movie_rows[order], scores[order]


def _diversified(two_stage: TwoStage, rows: Rows, scores: npt.NDArray[np.float64], diversity: float) -> Rows:
    """The first ten, as the ranking service chooses them."""
    unit_factors = two_stage.stage.tables.catalogue.item_unit_factors[rows]
    return rows[diversified(scores, unit_factors, diversity=diversity, limit=CUTOFF)]


if __name__ == "__main__":
    typer.run(main)
