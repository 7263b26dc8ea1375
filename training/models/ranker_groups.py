"""What the ranker learns from: candidates of users, labelled by what the users liked later.

The candidates are of a stage that saw only an inner history, the labels of what came after it. Had the
stage seen the labels, its scores would know them, and the ranker would learn to trust scores that are never
that good again.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.ratings import LIKED, Ratings
from training.checkpoints import Arrays
from training.data.movielens.cleaning import ratings_digest
from training.errors import TrainingError
from training.evaluation.splits import Split, SplitProtocol, sample_users, split
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.models.ranker import Groups
from training.models.recipe import RankerParameters, Recipe

LEAST_GROUPS: Final = 6
"""What a ranker learns from, or is chosen by, at the least."""
_CUTS: Final[Mapping[SplitProtocol, tuple[float, ...]]] = MappingProxyType(
    {SplitProtocol.TIME: (0.8, 0.9, 0.7, 0.6, 0.5), SplitProtocol.USER: (0.8, 0.7, 0.6)}
)
"""Shares of the past, first that of the evaluation, whose past the job fits a stage on anyway."""
_SCORED_USERS: Final = 300


class LeakError(Exception):
    """A training that would look ahead."""


class TooFewUsersError(TrainingError):
    """The ratings give too few users from whom a ranker could learn, or none to recommend anything to."""


def inner_cuts(past: Ratings, protocol: SplitProtocol, *, enough: int, liked: float = LIKED) -> list[Split]:
    """The cuts whose futures label the ranker's groups, stacked: a user gives a group in each.

    One cut leaves few groups where there are few users, or few who rate on both sides of a moment. Each
    costs a fit of stage one: there are as many as it takes to have `enough` users in all of them together.
    Where times are not known there is one: an earlier cut would be no other moment, but less of the same.
    """
    shares = _CUTS[protocol] if past.is_timed else _CUTS[protocol][:1]
    cuts: dict[float, Split] = {}
    for share in shares:
        cuts[share] = split(past, protocol, share, liked=liked)
        if sum(cut.users.size for cut in cuts.values()) >= enough:
            break
    return [cuts[share] for share in sorted(cuts)]


def candidate_scores(stage: FirstStage, users: Rows) -> npt.NDArray[np.float32]:
    """ALS scores of all candidates of at most 300 of the users, evenly spread."""
    some = users[:: max(1, -(-users.size // _SCORED_USERS))]
    scores = [found.scores for found in stage.candidates(some)]
    return np.concatenate([np.empty(0, np.float32), *scores])


def ranker_groups(past: Ratings, job: JobContext) -> tuple[Groups, npt.NDArray[np.float32]]:
    """What the ranker learns from: labelled candidates of every inner cut of `past`.

    If all groups of features are kept, the measurement on the validation part finds these groups in the job's
    checkpoints.

    Returns:
        The groups, and the ALS scores of some users' candidates in all cuts.

    Raises:
        TooFewUsersError: there are fewer than `LEAST_GROUPS`.
    """
    recipe = job.recipe
    cuts = labelling_cuts(past, recipe)
    digest = ratings_digest(past, job.table.movies.ids)
    key = hashlib.sha256(f"{digest} {replace(recipe, least_history=0)}".encode()).hexdigest()[:16]
    parts, inner_scores = [], []
    for i, cut in enumerate(cuts):

        def labelled(i: int = i, cut: Split = cut) -> Arrays:
            what = f"inner cut {i + 1} of {len(cuts)}"
            stage = FirstStage.fit(cut.train, job, what, users=cut.users)
            # Each cut its own: it does not matter which of them were done before.
            rng = np.random.default_rng([recipe.seed, i])
            with job.progress.step("Candidates of the ranker's groups", cut.users.size) as advance:
                found = labelled_groups(stage, cut, recipe.ranker, rng=rng, advance=advance)
            return {**vars(found), "inner_scores": candidate_scores(stage, cut.users)}

        arrays = dict(job.checkpoints.whole().step(f"groups-{key}-{i}", labelled))
        inner_scores.append(arrays.pop("inner_scores"))
        parts.append(Groups(**arrays))
    groups = Groups.stacked(parts)
    require_groups(np.unique(groups.group_ids).size, recipe)
    return groups, np.concatenate(inner_scores)


def labelling_cuts(past: Ratings, recipe: Recipe) -> list[Split]:
    """The inner cuts of `past`, with at most `max_users` users in all, drawn at random from all cuts.

    Raises:
        TooFewUsersError: the cuts have fewer than `LEAST_GROUPS` users, and maybe no past to fit anything on.
    """
    most = recipe.ranker.max_users
    cuts = inner_cuts(past, recipe.protocol, enough=most, liked=recipe.ranker.relevance_threshold)
    cuts = sample_users(cuts, most, np.random.default_rng(recipe.seed))
    require_groups(sum(cut.users.size for cut in cuts), recipe)
    return cuts


def require_groups(n_groups: int, recipe: Recipe) -> None:
    """Refuses to learn from less than `LEAST_GROUPS`.

    Raises:
        TooFewUsersError: there are fewer groups.
    """
    if n_groups < LEAST_GROUPS:
        raise TooFewUsersError(
            f"only {n_groups} lists of candidates give the ranker something to learn from under "
            f"'{recipe.protocol}'; at least {LEAST_GROUPS} are needed"
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
    if stage.ratings is not cut.train:
        raise LeakError(
            "stage one was fitted on other ratings than the past of the labels' cut: its scores may know "
            "the labels, and the ranker would learn to trust them"
        )
    matrices, labels, group_ids = [], [], []
    for user_row, relevant, found in zip(cut.users, cut.relevant, stage.candidates(cut.users), strict=True):
        advance()
        liked = np.isin(found.movie_rows, relevant)
        if not liked.any():
            continue
        kept = liked.copy()
        others = np.flatnonzero(~liked)
        kept[rng.choice(others, min(parameters.negatives, others.size), replace=False)] = True
        matrices.append(stage.features([int(user_row)], [found])[kept])
        labels.append(liked[kept])
        group_ids.append(np.full(int(kept.sum()), user_row, dtype=np.int64))
    return Groups.of_lists(matrices, labels, group_ids, n_features=len(stage.tables.names))
