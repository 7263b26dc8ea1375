"""What a measurement says in words: warnings that nobody should have to find in a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from serving.sources import ALS_ALONE, SourceWeights
from training.evaluation.judging import Lift, Quality, lift_of
from training.evaluation.splits import ENOUGH_USERS
from training.experiments.experiment import Measurement
from training.experiments.regularization import best_regularization
from training.experiments.short_histories import ShortHistories
from training.experiments.source_weights import POPULARITY_ALONE, SourceChoice


@dataclass(frozen=True)
class Look:
    """How tables and figures show a model."""

    title: str
    colour: str


MODELS: Final[Mapping[str, Look]] = MappingProxyType(
    {
        "popularity": Look("popularity", "#9aa1ab"),
        "svd": Look("SVD", "#c3a35a"),
        "item_knn": Look("item-kNN", "#b48ead"),
        "ease": Look("EASE", "#7a5aa6"),
        "als_reference": Look("ALS, reference preset", "#9cc3e0"),
        "als": Look("ALS", "#2f75b5"),
        "candidates": Look("candidates, merged", "#4b9a9a"),
        "two_stage_reference": Look("two-stage, 38 features", "#7fc4b2"),
        "two_stage": Look("two-stage", "#0a7c66"),
    }
)
"""By name, in the order in which tables show them."""


def merged(runs: Sequence[Measurement]) -> dict[str, Quality]:
    """Per user, the mean over the runs, by model in the order of `MODELS`, of those that each run has.

    One whose candidates are those of ALS alone has no merged ones.
    """
    return {
        model: Quality.mean_of([run.qualities[model] for run in runs])
        for model in MODELS
        if all(model in run.qualities for run in runs)
    }


def lifts(qualities: Mapping[str, Quality]) -> list[Lift]:
    """Of two-stage over whatever it must beat; none where nobody is judged."""
    ndcg = {model: quality.per_user["ndcg_at_10"] for model, quality in qualities.items()}
    if not ndcg["two_stage"].size:
        return []
    wanted = [model for model in ("als", "ease", "popularity", "two_stage_reference") if model in ndcg]
    return [lift_of(ndcg["two_stage"], ndcg[other], model="two_stage", over=other) for other in wanted]


def warnings_of(runs: Sequence[Measurement]) -> list[str]:
    """What is wrong or weak about measurements of one recipe; empty when nothing is.

    Where too few users were judged, that alone is said: whatever else the numbers show may be chance.
    """
    qualities, users = merged(runs), runs[0].judged_users
    if users < ENOUGH_USERS:
        return [f"Only {users} users can be judged under '{runs[0].recipe.protocol}': much may be chance."]
    found = []
    means = {model: quality.means()["ndcg_at_10"] for model, quality in qualities.items()}
    ours, als, popular = (means[model] for model in ("two_stage", "als", "popularity"))
    if ours < als:
        found.append(
            f"Two-stage ({ours:.3f}) is below its own stage one ({als:.3f}): the ranker trusts something "
            "that does not hold later. The usual cause is a leak: labels from ratings that stage one, or a "
            "feature, was fitted on. Do not serve it."
        )
    found.extend(
        f"{MODELS[model].title} ({means[model]:.3f}) is below plain popularity ({popular:.3f}): as it is, it "
        "is not worth its cost. Look at the data and at its parameters."
        for model in ("als", "two_stage")
        if means[model] < popular
    )
    if "ease" in means and ours < means["ease"]:
        found.append(
            f"Two-stage ({ours:.3f}) is below EASE ({means['ease']:.3f}), a linear model in closed form."
        )
    found.extend(
        f"Two-stage over {MODELS[one.over].title}: the interval [{one.low:+.3f}, {one.high:+.3f}] contains "
        "0, so the difference may be chance."
        for one in lifts(qualities)
        if one.low <= 0 <= one.high
    )
    found += _disagreements(means, runs)
    of_seed = [f" of seed {run.recipe.seed}" if len(runs) > 1 else "" for run in runs]
    found.extend(
        f"What is popular serves users with fewer than {run.short_histories.least_history} ratings better "
        f"than two-stage{seed} does, beyond chance: they get it."
        for run, seed in zip(runs, of_seed, strict=True)
        if run.short_histories is not None and run.short_histories.least_history
    )
    if "ease" not in means:
        found.append(
            "More than 10,000 movies are rated: item-kNN and EASE, the strongest baselines, were skipped."
        )
    of_als = [(f"ALS{seed}", run.als_ndcg) for run, seed in zip(runs, of_seed, strict=True)]
    for model, tried in (*of_als, ("EASE", runs[0].ease_ndcg)):  # no seed changes that of EASE
        if tried and (chosen := best_regularization(tried)) in {min(tried), max(tried)}:
            end = "smallest" if chosen == min(tried) else "largest"
            found.append(f"{model} took λ = {chosen:g}, the {end} tried: it may be better yet beyond that.")
    return found


def _disagreements(means: Mapping[str, float], runs: Sequence[Measurement]) -> Iterator[str]:
    """Where the validation part says otherwise than the test part, of nDCG@10 `means` by model."""
    validation = {
        model: float(np.mean([run.validation[model].means()["ndcg_at_10"] for run in runs]))
        for model in means
        if all(model in run.validation for run in runs)
    }
    if "two_stage" not in validation:
        return
    best_of_test, best = (max(part, key=part.__getitem__) for part in (means, validation))
    if best != best_of_test:
        yield (
            f"The parts disagree: on the test part {MODELS[best_of_test].title} is best "
            f"({means[best_of_test]:.3f}), on the validation part {MODELS[best].title} "
            f"({validation[best]:.3f})."
        )
    for model in ("als", "ease", "item_knn", "popularity"):
        if model not in validation:
            continue
        on_test, here = (part["two_stage"] - part[model] for part in (means, validation))
        if here < 0 <= on_test:
            yield (
                f"Two-stage is above {MODELS[model].title} on the test part ({on_test:+.3f}) and below it on "
                f"the validation part ({here:+.3f}): that it is better has not been shown."
            )


def sources_sentence(choice: SourceChoice, n_candidates: int) -> str:
    """Which weights the sources of candidates have, and why."""
    recalls = choice.recall
    head = (
        f"Sources of candidates: {weights_text(choice.chosen)}. Recall@{n_candidates} on the validation part:"
    )
    if not recalls:
        return f"{head} too few users to say"
    best = max(recalls, key=recalls.__getitem__)
    tried = "; ".join(
        f"{weights_text(weights)} {recalls[weights]:.4f}"
        for weights in dict.fromkeys((ALS_ALONE, POPULARITY_ALONE, best))
        if weights in recalls
    )
    return (
        f"{head} {tried}; what other users choose over ALS alone: paired 95 % interval [{choice.low:+.4f}, "
        f"{choice.high:+.4f}]"
    )


def number_text(value: float | None) -> str:
    """A metric with three digits; nothing for one that there is not."""
    return "" if value is None else f"{value:.3f}"


def weights_text(weights: SourceWeights) -> str:
    """The sources that are asked, with their weights, as "als 1, popularity 0.5"."""
    return ", ".join(f"{source} {weights.of(source):g}" for source in weights.used)


def short_histories_sentence(measured: ShortHistories) -> str:
    """From how many ratings on a new user gets more than what is popular, and why."""
    least = measured.least_history
    lifts_by_length = "; ".join(f"{length}: {lift}" for length, lift in measured.over_popularity.items())
    rule = (
        f"below {least} ratings, users get what is popular" if least else "nobody gets only what is popular"
    )
    return (
        f"New users: {rule}. Two-stage over popularity, nDCG@10 of users held out by number of ratings "
        f"known: {lifts_by_length or 'too few users to say'}"
    )
