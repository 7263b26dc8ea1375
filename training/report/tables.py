"""What people read of a measurement on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from serving.bundle.manifest import Manifest
from serving.features.sets import names_of_groups
from training.evaluation.judging import BANDS, Quality, by_history_length, shown_metrics
from training.evaluation.splits import Split
from training.experiments.experiment import Measurement
from training.experiments.feature_selection import FeatureSelection
from training.experiments.held_out_users import CUTOFF, StrongGeneralisation
from training.models.recipe import Recipe
from training.models.recommenders import Recommendation
from training.report.findings import (
    MODELS,
    lifts,
    merged,
    number_text,
    short_histories_sentence,
    sources_sentence,
    warnings_of,
)

_SHORT: Final[Mapping[str, str]] = MappingProxyType(
    {"precision_at_10": "prec@10", "coverage_at_10": "cover@10", "ceiling_ndcg_at_10": "ceiling"}
)


def quality_table(metrics: Mapping[str, Mapping[str, float]], caption: str, *, n_candidates: int) -> Table:
    """Models against metrics, as means over the judged users; a metric of no model is left out."""
    columns = [
        name for name in shown_metrics(n_candidates) if any(name in means for means in metrics.values())
    ]
    table = Table("model", caption=caption, caption_justify="left")
    for name in columns:
        title = _SHORT.get(name, name).replace("_at_", "@").replace("ndcg", "nDCG").replace("map", "MAP")
        table.add_column(title, justify="right")
    for model in (model for model in MODELS if model in metrics):
        table.add_row(MODELS[model].title, *(number_text(metrics[model].get(name)) for name in columns))
    return table


def bundle_table(manifest: Manifest) -> Table:
    """The quality table of a bundle, as its manifest has it."""
    recipe = manifest.recipe
    caption = (
        f"{manifest.dataset_tag}, protocol '{recipe['protocol']}', features {recipe['feature_groups']}, "
        f"seed {recipe['seed']}, ranker {recipe['ranker_loss']} with {recipe['ranker_trees']} trees"
    )
    return quality_table(manifest.metrics, caption, n_candidates=manifest.n_candidates)


def print_measurements(console: Console, runs: Sequence[Measurement], dataset_tag: str) -> None:
    """The quality table of one or several seeds, the lifts with intervals, segments, seeds, warnings."""
    first, qualities = runs[0], merged(runs)
    seeds = ", ".join(str(run.recipe.seed) for run in runs)
    caption = (
        f"{dataset_tag}, protocol '{first.recipe.protocol}', {_users(first)}, "
        f"features {_features(runs)}, "
        f"{'mean of seeds' if len(runs) > 1 else 'seed'} {seeds}. Novelty in bits; ceiling: nDCG@10 if the "
        f"model's {first.recipe.n_candidates} were ordered perfectly"
    )
    metrics = {model: quality.means() for model, quality in qualities.items()}
    console.print(quality_table(metrics, caption, n_candidates=first.recipe.n_candidates))
    if first.judged_users:
        console.print(_segment_table(qualities, first.judged))
        console.print(_profile_table(qualities, runs))
        for one in lifts(qualities):
            console.print(f"two-stage over {MODELS[one.over].title}: nDCG@10 {one}")
    if first.ease_ndcg:  # no seed changes it
        console.print(_regularization_text("EASE", first.ease_ndcg))
    for run in runs:
        for choice in _choices(run):
            console.print(f"seed {run.recipe.seed}: {choice}")
        reached = ", ".join(f"{loss} {value:.4f}" for loss, value in run.choice.validation_ndcg.items())
        console.print(
            f"seed {run.recipe.seed}: ranker {run.choice.loss}, {run.choice.iterations} trees, from "
            f"{run.groups} groups (nDCG@10 on the validation part, of what stage one retrieves: "
            f"{reached or 'not chosen there'}); two-stage nDCG@10 "
            f"{run.qualities['two_stage'].means().get('ndcg_at_10', float('nan')):.4f}",
        )
    for warning in warnings_of(runs):
        console.print(f"Warning: {warning}", style="yellow")


def _features(runs: Sequence[Measurement]) -> str:
    first, *others = (names_of_groups(run.recipe.feature_groups) for run in runs)
    return " ".join(first) if all(other == first for other in others) else "by seed"


def _choices(run: Measurement) -> Iterator[str]:
    """What was chosen on the validation part with one seed, and why."""
    if run.als_ndcg:
        yield _regularization_text("ALS", run.als_ndcg)
    if run.sources is not None:
        yield sources_sentence(run.sources, run.recipe.n_candidates)
    if run.short_histories is not None:
        yield short_histories_sentence(run.short_histories)
    if run.feature_selection is not None:
        yield _selection_text(run.feature_selection)


def _regularization_text(model: str, ndcg: Mapping[float, float]) -> str:
    tried = ", ".join(f"{value:g}: {reached:.4f}" for value, reached in ndcg.items())
    return f"{model}, nDCG@10 on the validation part by λ: {tried}"


def _selection_text(selection: FeatureSelection) -> str:
    names = {kept: [one for one in selection.gains if one.kept is kept] for kept in (True, False)}
    gains = {
        kept: ", ".join(f"{one.name} {one.gain:+.4f} ± {one.standard_error:.4f}" for one in of)
        for kept, of in names.items()
    }
    if not selection.gains:
        return f"features compact, as only {selection.users} users judge on the validation part"
    return (
        f"groups of features kept, with what {selection.users} validation users lose "
        f"without (nDCG@10): {gains[True] or 'none'}; left out: {gains[False] or 'none'}"
    )


def print_held_out_users(console: Console, strong: StrongGeneralisation, recipe: Recipe) -> None:
    """Quality for users whom training never saw, with the recipe of one seed."""
    recalls = ", ".join(f"{MODELS[model].title} {value:.3f}" for model, value in strong.recall.items())
    console.print(
        f"Strong generalisation with the recipe of seed {recipe.seed} under '{recipe.protocol}', "
        f"{strong.users} users held out whole, a random 80 % of their ratings sent as history: "
        f"recall@{CUTOFF} over min({CUTOFF}, liked): {recalls}",
    )
    if strong.recall and strong.recall["popularity"] > strong.recall["als"]:
        console.print(
            "Warning: new users are served better by what is popular than by ALS, folded in from 80 % of "
            "their ratings.",
            style="yellow",
        )


def _segment_table(qualities: Mapping[str, Quality], judged: Split) -> Table:
    segments = by_history_length(judged.history_lengths)
    table = Table("by segment", caption="nDCG@10 by history length; recall@10 of liked movies by popularity")
    for segment in segments:
        title = f"{segment.shortest}-{segment.longest} ratings\n({segment.members.sum()} users)"
        table.add_column(title, justify="right")
    for band in BANDS:
        with_one = (qualities["popularity"].per_user[f"recall_at_10_{band}"] >= 0).sum()
        table.add_column(f"{band}\n({with_one} users)", justify="right")
    for model, quality in qualities.items():
        ndcg, means = quality.per_user["ndcg_at_10"], quality.means()
        table.add_row(
            MODELS[model].title,
            *(f"{ndcg[segment.members].mean():.3f}" for segment in segments),
            *(number_text(means.get(f"recall_at_10_{band}")) for band in BANDS),
        )
    return table


def _profile_table(qualities: Mapping[str, Quality], runs: Sequence[Measurement]) -> Table:
    """How much each model's lists are made for each user, mean over the runs."""
    table = Table(
        "first ten",
        caption="popularity: mean share of rated movies that are rated less; overlap: share that two users "
        "have in common; miscalibration: of genres from those of the user's likes, Jensen-Shannon, bits",
        caption_justify="left",
    )
    for title in ("popularity", "overlap", "coverage", "novelty", "miscalibration"):
        table.add_column(title, justify="right")
    for model, quality in qualities.items():
        profiles = [run.profiles[model] for run in runs]
        means = quality.means()
        table.add_row(
            MODELS[model].title,
            number_text(float(np.mean([one.popularity_percentile for one in profiles]))),
            number_text(float(np.mean([one.overlap for one in profiles]))),
            number_text(means["coverage_at_10"]),
            number_text(means["novelty_at_10"]),
            number_text(float(np.mean([one.miscalibration for one in profiles]))),
        )
    return table


def recommendation_table(items: Sequence[Recommendation], user_id: int, *, explain: bool) -> Table:
    """One line a movie, with the strongest reasons if they were asked for."""
    table = Table("", "movie", "year", caption_justify="left", caption=f"for user {user_id}")
    table.add_column("score", justify="right")
    table.add_column("model")
    if explain:
        table.add_column("what moved the score")
    for place, item in enumerate(items, start=1):
        reasons = "\n".join(
            f"{r.contribution:+.3f} {r.feature}{_seen(r.value)}: {r.phrase}" for r in item.reasons[:3]
        )
        cells = (str(place), item.title, str(item.year or ""), f"{item.score:.3f}", item.model)
        table.add_row(*cells, *([reasons] if explain else []))
    return table


def _seen(value: float | None) -> str:
    return ", unknown" if value is None else f" = {value:.4g}"


def _users(measurement: Measurement) -> str:
    judged, eligible = measurement.judged_users, measurement.judged.eligible
    return f"{judged} users" if judged == eligible else f"{judged:,} of {eligible:,} users, drawn at random"
