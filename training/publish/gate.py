"""The quality gate: a new recipe is not published where it is shown to be worse than what it would replace.

A bundle keeps what its recipe reached for each judged user, and the hash of the split it was judged on.
With an equal hash, champion and challenger are compared user by user. Else the champion's recipe is trained
and judged on the challenger's split first: numbers of two splits do not compare.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from serving.bundle.store import BundleError, BundleStore
from serving.ids import IdMap, Ids
from serving.ratings import Ratings
from training.data.movielens.cleaning import ratings_digest
from training.evaluation.judging import Lift, lift_of
from training.evaluation.splits import Split
from training.experiments.experiment import Measurement, measure
from training.models.job_context import JobContext
from training.models.recipe_record import recipe_of

TOLERANCE: Final = 0.02
"""Share of the champion's nDCG@10 that a new bundle may be below it."""

LEAST_USERS: Final = 20
"""With fewer, a bootstrap interval is narrower than it should be, and no difference refuses."""

SERVED: Final = "served"
"""Name of the champion's two-stage model beside those of the challenger."""

_METRIC: Final = "ndcg_at_10"
_FILE: Final = "evaluation.npz"


@dataclass(frozen=True)
class Evaluation:
    """What a recipe reached for each judged user, before the last refit."""

    split_hash: str
    """Of past, judged users and what they liked later."""
    user_ids: Ids
    """Shape (n_users,)."""
    ndcg: Mapping[str, npt.NDArray[np.float64]]
    """By model: popularity, als, two_stage; nDCG@10, shape (n_users,)."""

    @classmethod
    def of(cls, measurement: Measurement, movie_ids: IdMap) -> "Evaluation":
        """What the gate needs of a measurement."""
        judged = measurement.judged
        return cls(
            split_hash=_split_hash(judged, movie_ids),
            user_ids=judged.train.users.ids[judged.users],
            ndcg={
                model: measurement.qualities[model].per_user[_METRIC]
                for model in ("popularity", "als", "two_stage")
            },
        )

    def write(self, folder: Path) -> None:
        """Writes the file of a bundle's `reports/`."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, npt.NDArray[Any]] = dict(self.ndcg)
        np.savez(
            folder / _FILE,
            allow_pickle=False,
            split_hash=np.array(self.split_hash),
            user_ids=self.user_ids,
            **arrays,
        )

    @classmethod
    def read(cls, folder: Path) -> "Evaluation | None":
        """Reads what `write` wrote; None if it is not there or damaged."""
        try:
            content = io.BytesIO((folder / _FILE).read_bytes())
            with np.load(content, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return cls(split_hash=str(arrays.pop("split_hash")), user_ids=arrays.pop("user_ids"), ndcg=arrays)
        except (BadZipFile, KeyError, OSError, ValueError):
            return None


def _split_hash(judged: Split, movie_ids: IdMap) -> str:
    hasher = hashlib.sha256(ratings_digest(judged.train, movie_ids).encode())
    for user_id, liked in zip(judged.train.users.ids[judged.users], judged.relevant, strict=True):
        hasher.update(f"{user_id}:{','.join(map(str, movie_ids.ids[np.sort(liked)]))}\n".encode())
    return hasher.hexdigest()


@dataclass(frozen=True)
class Verdict:
    """Whether a new recipe may be published."""

    refusals: tuple[str, ...]
    """Why not, one sentence a rule; none: it may."""
    remark: str
    """How it stands beside the champion, in words."""
    over_served: Lift | None = None
    """How much better it is than the champion on the same users; None where there is nothing to compare."""


def judge_challenger(challenger: Evaluation, champion: Evaluation | None, remark: str = "") -> Verdict:
    """Applies the rules: a difference refuses where its whole paired interval is beyond the limit.

    Args:
        challenger: what would be published.
        champion: what is served now, judged on the same split; None if there is nothing to compare with.
        remark: why there is nothing, or where the champion's numbers come from.
    """
    if not challenger.user_ids.size:
        return Verdict(
            ("there is nobody to judge by: no user has a past and a liked movie after it",), remark
        )
    ours = challenger.ndcg["two_stage"]
    enough = ours.size >= LEAST_USERS
    refusals = []
    for model, words in (("popularity", "popularity"), ("als", "stage one alone")):
        over = lift_of(ours, challenger.ndcg[model], model="two_stage", over=model)
        if enough and over.high < 0:
            refusals.append(
                f"nDCG@10 {ours.mean():.4f} is below {words}, {challenger.ndcg[model].mean():.4f}: {over}"
            )
    if champion is None:
        return Verdict(refusals=tuple(refusals), remark=remark)
    theirs = champion.ndcg["two_stage"]
    over = lift_of(ours, theirs, model="two_stage", over=SERVED)
    remark = (
        f"{remark}nDCG@10 {ours.mean():.4f} against {theirs.mean():.4f} of what is served, on the same "
        f"{theirs.size} users: {over}"
    )
    if enough and over.high < -TOLERANCE * theirs.mean():
        refusals.append(
            f"nDCG@10 {ours.mean():.4f} is more than {TOLERANCE:.0%} below what is served, "
            f"{theirs.mean():.4f}, whatever chance may explain: {over}"
        )
    return Verdict(refusals=tuple(refusals), remark=remark, over_served=over)


def pass_gate(
    store: BundleStore,
    measurement: Measurement,
    ratings: Ratings,
    job: JobContext,
) -> tuple[Evaluation, Verdict]:
    """Judges a new recipe beside the one that is served.

    Args:
        store: holds the champion, if there is one.
        measurement: of the new recipe.
        ratings: what it was measured on.
        job: the new recipe's; the champion's may have to be trained in it.

    Returns:
        What to keep with the new bundle, and the verdict.
    """
    recipe = measurement.recipe
    movie_ids = job.table.movies.ids
    challenger = Evaluation.of(measurement, movie_ids)
    try:
        manifest = store.manifest(store.pointer().bundle_id)
    except BundleError as error:
        return challenger, judge_challenger(challenger, None, f"nothing to compare with: {error}")
    kept = Evaluation.read(store.path(manifest.bundle_id) / "reports")
    if kept is not None and kept.split_hash == challenger.split_hash:
        return challenger, judge_challenger(challenger, kept)
    try:
        theirs, choice = recipe_of(manifest.recipe)
    except (KeyError, TypeError, ValueError):
        reason = f"the recipe of bundle {manifest.bundle_id} cannot be trained by this version"
        return challenger, Verdict(refusals=(reason,), remark="nothing to compare with")
    theirs = replace(theirs, protocol=recipe.protocol, threads=recipe.threads)
    if theirs == recipe:
        return challenger, judge_challenger(
            challenger, None, "the same recipe is served, trained on other ratings"
        )
    job.progress.console.print(
        f"Measuring the recipe of bundle {manifest.bundle_id} on the new split, to compare"
    )
    # By name: after a rollback another bundle is the champion of the same job.
    part = job.part(f"champion-{manifest.bundle_id}")
    # What is served has the λ and the sources that it has.
    theirs = replace(theirs, choose_regularization=False, choose_sources=False)
    again = measure(ratings, replace(part, recipe=theirs), choice=choice)
    champion = Evaluation.of(again, movie_ids)
    return challenger, judge_challenger(challenger, champion, "its recipe was trained on the new split: ")
