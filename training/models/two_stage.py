"""The two-stage recommender: ALS retrieves, CatBoost re-orders; trained without looking ahead.

The ranker learns from candidates of a stage that saw only an inner history, labelled by what came after
it. Had the stage seen the labels, its scores would know them, and the ranker would learn to trust scores
that are never that good again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost

from serving.features import FEATURE_NAMES, FeatureSet
from serving.fold_in import AlsParameters
from serving.ids import Rows
from serving.ratings import LIKED, Ratings
from serving.retrieval import best_first
from training.metrics import ndcg
from training.models.first_stage import FirstStage
from training.models.ranker import Groups, Loss, RankerParameters, fit_ranker, model_bytes, model_of
from training.movielens.movies import MovieTable
from training.progress import Progress
from training.splits import Protocol, Split, sample_users, split
from training.work import NO_WORK, Arrays, Work

_TIME_CUTS: Final = (0.8, 0.9, 0.7, 0.6, 0.5)
"""First that of the evaluation, whose past the job fits a stage on anyway."""
_LEAST_GROUPS: Final = 6
"""Each third is held out once, and in it is more than one."""
_FEW_GROUPS: Final = 2_000
_CHOICE_GROUPS: Final = 3_000
"""Groups at the most that loss and trees are chosen on. With more, a fit of YetiRank takes minutes."""
_TREES_STEP: Final = 50
_SCORED_USERS: Final = 300
_USERS_PER_PREDICTION: Final = 100


class LeakError(Exception):
    """A training that would look ahead."""


class TooFewUsersError(Exception):
    """The ratings give too few users from whom a ranker could learn, or none to recommend anything to."""


@dataclass(frozen=True)
class Recipe:
    """How a two-stage recommender is trained: all that decides what comes out, but for the ratings."""

    als: AlsParameters
    ranker: RankerParameters
    feature_set: FeatureSet
    protocol: Protocol
    """The ranker's labels are cut as the evaluation cuts its future."""
    seed: int
    threads: int
    """Of ALS and CatBoost; part of the recipe, as CatBoost's result depends on it."""


@dataclass(frozen=True)
class LearningCurve:
    """Held-out nDCG@10 on sampled lists by number of trees. Parallel."""

    loss: Loss
    trees: tuple[int, ...]
    ndcg: tuple[float, ...]
    """Means over the held-out groups."""
    standard_errors: tuple[float, ...]


@dataclass(frozen=True)
class RankerChoice:
    """Loss and number of trees, chosen on held-out groups."""

    loss: Loss
    iterations: int
    held_out_ndcg: Mapping[Loss, float]
    """The best nDCG@10 of each loss, on sampled lists: for comparing losses, with nothing else."""
    curves: tuple[LearningCurve, ...] = ()
    """What was chosen from; empty when the choice was given."""


@dataclass(frozen=True)
class TwoStage:
    """A trained recommender."""

    stage: FirstStage
    ranker: CatBoost
    choice: RankerChoice
    groups: int
    """Groups that the ranker learned from."""
    inner_scores: npt.NDArray[np.float32]
    """ALS scores of candidates in the inner cuts, of some users: what the ranker learned to read."""

    def recommend(self, user_rows: Rows, progress: Callable[[], None] = lambda: None) -> list[Rows]:
        """Every candidate of each user, best first, as the servers order them."""
        lists: list[Rows] = []
        for start in range(0, len(user_rows), _USERS_PER_PREDICTION):
            users = user_rows[start : start + _USERS_PER_PREDICTION]
            found = list(self.stage.candidates(users))
            features = [self.stage.features(int(user), own) for user, own in zip(users, found, strict=True)]
            scores = self._scores(np.concatenate(features))
            ends = np.cumsum([own.movie_rows.size for own in found])
            for own, own_scores in zip(found, np.split(scores, ends[:-1]), strict=True):
                lists.append(own.movie_rows[best_first(own_scores, own.movie_rows)])
                progress()
        return lists

    def _scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if not len(features):
            return np.empty(0)
        scores: npt.NDArray[np.float64] = self.ranker.predict(
            features, prediction_type="RawFormulaVal", thread_count=1
        )
        return scores


def inner_cuts(past: Ratings, protocol: Protocol, *, enough: int, liked: float = LIKED) -> list[Split]:
    """The cuts whose futures label the ranker's groups: one per user, or several by time, stacked.

    One cut by time leaves few groups where few users rate on both sides of it. Each costs a fit of stage
    one: there are as many as it takes to have `enough` users in all of them together.
    """
    if protocol is Protocol.USER:
        return [split(past, Protocol.USER, liked=liked)]
    cuts: dict[float, Split] = {}
    for share in _TIME_CUTS:
        cuts[share] = split(past, Protocol.TIME, share, liked=liked)
        if sum(cut.users.size for cut in cuts.values()) >= enough:
            break
    return [cuts[share] for share in sorted(cuts)]


def fit_two_stage(
    past: Ratings,
    table: MovieTable,
    recipe: Recipe,
    progress: Progress,
    choice: RankerChoice | None = None,
    *,
    work: Work = NO_WORK,
    users: Rows | None = None,
) -> TwoStage:
    """Trains on `past` alone.

    Args:
        past: what may be learned from.
        table: the catalogue.
        recipe: how.
        progress: shows the steps.
        choice: loss and trees; chosen on held-out groups when None.
        work: steps that were finished before, and where to keep those to come.
        users: rows of those whom it will recommend to; all when None.
    """
    groups, inner_scores = ranker_groups(past, table, recipe, progress, work)
    if choice is None:
        choice = choose_ranker(groups, recipe, progress, work)

    def trees() -> Arrays:
        return {"cbm": model_bytes(_fit(groups, choice.loss, choice.iterations, recipe))}

    with progress.step(f"Ranker: {choice.iterations} trees, {choice.loss}"):
        # Always by way of its bytes: a resumed job must end with those of an uninterrupted one.
        ranker = model_of(work.step("ranker", trees)["cbm"])
    stage = fit_first_stage(past, table, recipe, progress, "all of the past", work=work, users=users)
    return TwoStage(
        stage=stage,
        ranker=ranker,
        choice=choice,
        groups=np.unique(groups.group_ids).size,
        inner_scores=inner_scores,
    )


def candidate_scores(stage: FirstStage, users: Rows) -> npt.NDArray[np.float32]:
    """ALS scores of all candidates of at most some hundred of the users, evenly spread."""
    some = users[:: max(1, users.size // _SCORED_USERS)]
    scores = [found.scores for found in stage.candidates(some)]
    return np.concatenate([np.empty(0, np.float32), *scores])


def ranker_groups(
    past: Ratings, table: MovieTable, recipe: Recipe, progress: Progress, work: Work = NO_WORK
) -> tuple[Groups, npt.NDArray[np.float32]]:
    """What the ranker learns from: labelled candidates of every inner cut of `past`.

    Returns:
        The groups, and the ALS scores of some users' candidates in all cuts.

    Raises:
        TooFewUsersError: nobody gives a group.
    """
    cuts = labelling_cuts(past, recipe)
    parts, inner_scores = [], []
    for i, cut in enumerate(cuts):

        def labelled(i: int = i, cut: Split = cut) -> Arrays:
            what = f"inner cut {i + 1} of {len(cuts)}"
            stage = fit_first_stage(cut.past, table, recipe, progress, what, work=work, users=cut.users)
            # Each cut its own: it does not matter which of them were done before.
            rng = np.random.default_rng([recipe.seed, i])
            with progress.step("Candidates of the ranker's groups", cut.users.size) as advance:
                found = labelled_groups(stage, cut, recipe.ranker, rng=rng, advance=advance)
            return {**vars(found), "inner_scores": candidate_scores(stage, cut.users)}

        arrays = dict(work.step(f"groups-{i}", labelled))
        inner_scores.append(arrays.pop("inner_scores"))
        parts.append(Groups(**arrays))
    groups = Groups.stacked(parts)
    require_groups(np.unique(groups.group_ids).size, recipe)
    return groups, np.concatenate(inner_scores)


def labelling_cuts(past: Ratings, recipe: Recipe) -> list[Split]:
    """The inner cuts of `past`, with at most `max_users` users in all, drawn at random from all cuts.

    Raises:
        TooFewUsersError: no cut has a user. It may have no past either: nothing can be fitted on it.
    """
    most = recipe.ranker.max_users
    cuts = inner_cuts(past, recipe.protocol, enough=most, liked=recipe.ranker.relevance_threshold)
    cuts = sample_users(cuts, most, np.random.default_rng(recipe.seed))
    require_groups(sum(cut.users.size for cut in cuts), recipe)
    return cuts


def require_groups(n_groups: int, recipe: Recipe, *, least: int = 1) -> None:
    """Refuses to learn from less.

    Raises:
        TooFewUsersError: there are fewer groups than `least`.
    """
    if n_groups < least:
        raise TooFewUsersError(
            f"only {n_groups} users give the ranker something to learn from under '{recipe.protocol}'; at "
            f"least {_LEAST_GROUPS} are needed"
        )


def fit_first_stage(
    ratings: Ratings,
    table: MovieTable,
    recipe: Recipe,
    progress: Progress,
    what: str,
    *,
    work: Work = NO_WORK,
    users: Rows | None = None,
) -> FirstStage:
    """Fits stage one on `ratings`, named `what` to whoever watches; `users` as for `FirstStage.fit`."""
    with progress.step(f"Stage one on {what}", recipe.als.iterations) as advance:
        return FirstStage.fit(
            ratings,
            table,
            recipe.als,
            recipe.feature_set,
            seed=recipe.seed,
            threads=recipe.threads,
            progress=advance,
            work=work,
            users=users,
        )


def labelled_groups(
    stage: FirstStage,
    cut: Split,
    parameters: RankerParameters,
    *,
    rng: np.random.Generator,
    advance: Callable[[], None] = lambda: None,
) -> Groups:
    """Candidates of the cut's users from the stage's history, labelled by what the users liked later.

    Keeps all positives of a list and some of the others; a user without a positive gives no group.

    Raises:
        LeakError: the stage was fitted on other ratings than the cut's past.
    """
    if stage.ratings is not cut.past:
        raise LeakError(
            "stage one was fitted on other ratings than the past of the labels' cut: its scores may know "
            "the labels, and the ranker would learn to trust them"
        )
    matrices, labels, group_ids = [], [], []
    for user_row, truth, found in zip(cut.users, cut.truth, stage.candidates(cut.users), strict=True):
        advance()
        liked = np.isin(found.movie_rows, truth)
        if not liked.any():
            continue
        kept = liked.copy()
        others = np.flatnonzero(~liked)
        kept[rng.choice(others, min(parameters.negatives, others.size), replace=False)] = True
        matrices.append(stage.features(int(user_row), found)[kept])
        labels.append(liked[kept])
        group_ids.append(np.full(int(kept.sum()), user_row, dtype=np.int64))
    return Groups.of_lists(matrices, labels, group_ids, n_features=len(stage.tables.names))


def choose_ranker(groups: Groups, recipe: Recipe, progress: Progress, work: Work = NO_WORK) -> RankerChoice:
    """Chooses loss and number of trees on groups that the candidates for the choice did not learn from.

    With few groups one held-out part says little, so that each third is held out once. The number of
    trees is that of the best mean over three neighbouring numbers: single ones are noise. YetiRank is
    taken unless Logloss is better by more than a standard error of the difference. Where there are so many
    groups that a sample of them is looked at, it is the other way round: YetiRank has to be worth its time.

    Raises:
        TooFewUsersError: there are too few groups to hold any out.
    """
    preferred = Loss.YETI_RANK if np.unique(groups.group_ids).size <= _CHOICE_GROUPS else Loss.LOGLOSS
    groups = _at_most(groups, _CHOICE_GROUPS, recipe.seed)
    unique = np.unique(groups.group_ids)
    n_folds = 3 if unique.size < _FEW_GROUPS else 5
    require_groups(unique.size, recipe, least=_LEAST_GROUPS)
    fold_of = np.random.default_rng(recipe.seed).permutation(unique.size) % n_folds
    folds = range(n_folds if unique.size < _FEW_GROUPS else 1)
    grid = range(_TREES_STEP, recipe.ranker.iterations + 1, _TREES_STEP) or [recipe.ranker.iterations]
    qualities: dict[Loss, npt.NDArray[np.float64]] = {}
    with progress.step("Choosing loss and trees on held-out groups", len(folds) * len(Loss)) as advance:
        for loss in Loss:
            rows = []
            for fold in folds:
                out = np.isin(groups.group_ids, unique[fold_of == fold])

                def held_out(loss: Loss = loss, out: npt.NDArray[np.bool_] = out) -> Arrays:
                    model = _fit(groups.where(~out), loss, recipe.ranker.iterations, recipe)
                    return {"ndcg": _held_out_ndcg(model, groups.where(out), grid)}

                rows.append(work.step(f"held-out-{loss}-{fold}", held_out)["ndcg"])
                advance()
            qualities[loss] = np.concatenate(rows)
    means = {loss: _smoothed(quality.mean(axis=0)) for loss, quality in qualities.items()}
    best = {loss: int(mean.argmax()) for loss, mean in means.items()}
    (other,) = set(Loss) - {preferred}
    lead = qualities[other][:, best[other]] - qualities[preferred][:, best[preferred]]
    loss = other if lead.mean() > lead.std() / np.sqrt(lead.size) else preferred
    return RankerChoice(
        loss=loss,
        iterations=grid[best[loss]],
        held_out_ndcg={name: float(mean.max()) for name, mean in means.items()},
        curves=tuple(_curve(name, tuple(grid), quality) for name, quality in qualities.items()),
    )


def _at_most(groups: Groups, most: int, seed: int) -> Groups:
    """So many of the groups, drawn at random."""
    unique = np.unique(groups.group_ids)
    if unique.size <= most:
        return groups
    chosen = np.random.default_rng(seed).choice(unique, most, replace=False)
    return groups.where(np.isin(groups.group_ids, chosen))


def _fit(groups: Groups, loss: Loss, iterations: int, recipe: Recipe) -> CatBoost:
    return fit_ranker(
        groups,
        loss,
        recipe.ranker,
        iterations=iterations,
        feature_names=FEATURE_NAMES[recipe.feature_set],
        seed=recipe.seed,
        threads=recipe.threads,
    )


def _held_out_ndcg(model: CatBoost, groups: Groups, grid: Sequence[int]) -> npt.NDArray[np.float64]:
    """nDCG@10 of each group by number of trees, shape (n_groups, len(grid))."""
    starts = np.flatnonzero(np.diff(groups.group_ids, prepend=-1))
    scores = [
        np.split(model.predict(groups.features, "RawFormulaVal", ntree_end=trees), starts[1:])
        for trees in grid
    ]
    labels = np.split(groups.labels, starts[1:])
    return np.array(
        [
            [
                ndcg(
                    best_first(by_trees[g], np.arange(liked.size, dtype=np.int32)), np.flatnonzero(liked), 10
                )
                for by_trees in scores
            ]
            for g, liked in enumerate(labels)
        ]
    )


def _curve(loss: Loss, trees: tuple[int, ...], quality: npt.NDArray[np.float64]) -> LearningCurve:
    """Of nDCG by group and number of trees, shape (n_groups, len(trees))."""
    return LearningCurve(
        loss=loss,
        trees=trees,
        ndcg=tuple(quality.mean(axis=0).tolist()),
        standard_errors=tuple((quality.std(axis=0) / np.sqrt(len(quality))).tolist()),
    )


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each value's mean with its neighbours, shape as given."""
    padded = np.pad(values, 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3
