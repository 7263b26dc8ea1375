"""What people read of a measurement on the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from training.evaluation import Quality, paired_interval
from training.experiment import Measurement

_COLUMNS = ("ndcg_at_10", "recall_at_10", "precision_at_10", "map_at_10", "coverage_at_10", "recall_at_300")
_TITLES = {
    "popularity": "popularity",
    "svd": "SVD",
    "als": "ALS (stage one)",
    "two_stage": "two-stage",
}


def quality_table(metrics: Mapping[str, Mapping[str, float]], caption: str) -> Table:
    """Models against metrics, as means over the judged users."""
    table = Table("model", caption=caption, caption_justify="left")
    for name in _COLUMNS:
        title = name.replace("_at_", "@").replace("ndcg", "nDCG").replace("map", "MAP")
        table.add_column(title, justify="right")
    for model, means in metrics.items():
        table.add_row(_TITLES[model], *(f"{means[name]:.3f}" for name in _COLUMNS))
    return table


def print_measurements(console: Console, runs: Sequence[Measurement], dataset_tag: str) -> None:
    """The quality table of one or several seeds, and the intervals of the lifts."""
    first = runs[0]
    qualities = {model: Quality.mean_of([run.qualities[model] for run in runs]) for model in first.qualities}
    seeds = ", ".join(str(run.recipe.seed) for run in runs)
    caption = (
        f"{dataset_tag}, protocol '{first.recipe.protocol}', {first.judged_users} users, "
        f"features '{first.recipe.feature_set}', "
        f"{'mean of seeds' if len(runs) > 1 else 'seed'} {seeds}"
    )
    console.print(quality_table({model: quality.means() for model, quality in qualities.items()}, caption))
    ours = qualities["two_stage"].per_user["ndcg_at_10"]
    for other in ("als", "popularity"):
        theirs = qualities[other].per_user["ndcg_at_10"]
        low, high = paired_interval(ours, theirs)
        console.print(
            f"two-stage over {_TITLES[other]}: nDCG@10 {(ours - theirs).mean():+.4f}, "
            f"paired 95 % interval [{low:+.4f}, {high:+.4f}]",
            highlight=False,
        )
    for run in runs:
        held_out = ", ".join(f"{loss} {value:.4f}" for loss, value in run.choice.held_out_ndcg.items())
        console.print(
            f"seed {run.recipe.seed}: ranker {run.choice.loss}, {run.choice.iterations} trees, from "
            f"{run.groups} groups (nDCG@10 on held-out sampled groups: {held_out}); two-stage nDCG@10 "
            f"{run.qualities['two_stage'].means()['ndcg_at_10']:.4f}",
            highlight=False,
        )
