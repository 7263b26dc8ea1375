"""The quality gate: a new recipe is not published where it is shown to be worse than what it would replace.

A bundle keeps what its recipe reached for each judged user, and the hash of the split it was judged on.
With an equal hash, champion and challenger are compared user by user. Else the champion's recipe is trained
and judged on the challenger's split first: numbers of two splits do not compare.

The rules hold on the test part and on the validation part: what is better in one and worse in the other has
not been shown to be better.
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
from training.errors import TrainingError
from training.evaluation.judging import Lift, Quality, lift_of
from training.evaluation.splits import Split
from training.experiments.experiment import Measurement, measure
from training.models.job_context import JobContext
from training.models.recipe import Recipe
from training.models.recipe_record import recipe_of

TOLERANCE: Final = 0.02
"""Share of the champion's nDCG@10 that a new bundle may be below it."""

LEAST_USERS: Final = 20
"""With fewer, a bootstrap interval is narrower than it should be, and no difference refuses."""

SERVED: Final = "served"
"""Name of the champion's two-stage model beside those of the challenger."""

_METRIC: Final = "ndcg_at_10"
_FILE: Final = "evaluation.npz"
_VALIDATION: Final = "validation_"


@dataclass(frozen=True)
class Evaluation:
    """What a recipe reached for each judged user, before the last refit."""

    split_hash: str
    """Of past, judged users and what they liked later."""
    user_ids: Ids
    """Shape (n_users,)."""
    ndcg: Mapping[str, npt.NDArray[np.float64]]
    """By model: popularity, als, two_stage; nDCG@10, shape (n_users,)."""
    validation: "Evaluation | None" = None
    """The same of the validation part; none of a part, and where that part was too small."""

    @classmethod
    def of(cls, measurement: Measurement, movie_ids: IdMap) -> "Evaluation":
        """What the gate needs of a measurement."""
        validated = measurement.validated
        validation = None if validated is None else _part(validated, measurement.validation, movie_ids)
        return replace(_part(measurement.judged, measurement.qualities, movie_ids), validation=validation)

    @property
    def split_hashes(self) -> tuple[str, str | None]:
        """Of the test part and the validation part."""
        return self.split_hash, None if self.validation is None else self.validation.split_hash

    def write(self, folder: Path) -> None:
        """Writes the file of a bundle's `reports/`."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = _arrays_of(self)
        if self.validation is not None:
            arrays |= {_VALIDATION + name: array for name, array in _arrays_of(self.validation).items()}
        np.savez(folder / _FILE, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, folder: Path) -> "Evaluation | None":
        """Reads what `write` wrote; None if it is not there or damaged."""
        try:
            content = io.BytesIO((folder / _FILE).read_bytes())
            with np.load(content, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            of_validation = {
                name.removeprefix(_VALIDATION): arrays.pop(name)
                for name in list(arrays)
                if name.startswith(_VALIDATION)
            }
            validation = _of_arrays(of_validation) if of_validation else None
            return replace(_of_arrays(arrays), validation=validation)
        except (BadZipFile, EOFError, KeyError, OSError, ValueError):
            return None


def _arrays_of(part: Evaluation) -> dict[str, npt.NDArray[Any]]:
    return {"split_hash": np.array(part.split_hash), "user_ids": part.user_ids, **part.ndcg}


def _of_arrays(arrays: dict[str, npt.NDArray[Any]]) -> Evaluation:
    return Evaluation(str(arrays.pop("split_hash")), arrays.pop("user_ids"), arrays)


def _part(judged: Split, qualities: Mapping[str, Quality], movie_ids: IdMap) -> Evaluation:
    return Evaluation(
        split_hash=_split_hash(judged, movie_ids),
        user_ids=judged.train.users.ids[judged.users],
        ndcg={model: qualities[model].per_user[_METRIC] for model in ("popularity", "als", "two_stage")},
    )


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
    """How much better it is than the champion on the same users of the test part; None where there is nothing
    to compare."""


def judge_challenger(challenger: Evaluation, champion: Evaluation | None, remark: str = "") -> Verdict:
    """Applies the rules: a difference refuses where its whole paired interval is beyond the limit.

    Without a champion, judged on the same split, there is nothing to compare with. `remark` says why, or
    where its numbers come from.
    """
    if not challenger.user_ids.size:
        return Verdict(
            ("there is nobody to judge by: no user has a past and a liked movie after it",), remark
        )
    refusals = _below_baselines(challenger)
    over = None
    if champion is not None:
        over, worse = _over_champion(challenger, champion)
        refusals += worse
        ours, theirs = challenger.ndcg["two_stage"], champion.ndcg["two_stage"]
        remark = (
            f"{remark}nDCG@10 {ours.mean():.4f} against {theirs.mean():.4f} of what is served, on the same "
            f"{theirs.size} users: {over}"
        )
    validation = challenger.validation
    if validation is not None:
        on_validation = _below_baselines(validation)
        if champion is not None and champion.validation is not None:
            on_validation += _over_champion(validation, champion.validation)[1]
        refusals += [f"on the validation part, {refusal}" for refusal in on_validation]
    return Verdict(refusals=tuple(refusals), remark=remark, over_served=over)


def _below_baselines(challenger: Evaluation) -> list[str]:
    """Refusals of what is beaten by popularity, or by stage one alone."""
    ours = challenger.ndcg["two_stage"]
    refusals = []
    for model, words in (("popularity", "popularity"), ("als", "ALS alone")):
        theirs = challenger.ndcg[model]
        over = lift_of(ours, theirs, model="two_stage", over=model)
        if ours.size >= LEAST_USERS and over.high < 0:
            refusals.append(f"nDCG@10 {ours.mean():.4f} is below {words}, {theirs.mean():.4f}: {over}")
    return refusals


def _over_champion(challenger: Evaluation, champion: Evaluation) -> tuple[Lift, list[str]]:
    """The lift over what is served, and the refusal of what is worse by more than is tolerated, if it is."""
    ours, theirs = challenger.ndcg["two_stage"], champion.ndcg["two_stage"]
    over = lift_of(ours, theirs, model="two_stage", over=SERVED)
    if ours.size < LEAST_USERS or over.high >= -TOLERANCE * theirs.mean():
        return over, []
    refusal = (
        f"nDCG@10 {ours.mean():.4f} is more than {TOLERANCE:.0%} below what is served, {theirs.mean():.4f}, "
        f"whatever chance may explain: {over}"
    )
    return over, [refusal]


def pass_gate(
    store: BundleStore, measurement: Measurement, ratings: Ratings, job: JobContext
) -> tuple[Evaluation, Verdict]:
    """Judges a new recipe beside the one that is served, whose recipe may have to be trained on `ratings`.

    Returns:
        What to keep with the new bundle, and the verdict.
    """
    challenger = Evaluation.of(measurement, job.table.movies.ids)
    try:
        champion, remark = _champion(store, challenger, measurement.recipe, ratings, job)
    except _UntrainableError as error:
        verdict = Verdict(refusals=(str(error),), remark="nothing to compare with")
    else:
        verdict = judge_challenger(challenger, champion, remark)
    return challenger, verdict


class _UntrainableError(Exception):
    """The champion's recipe is of another version, or of other ratings. The message says so."""


def _champion(
    store: BundleStore, challenger: Evaluation, recipe: Recipe, ratings: Ratings, job: JobContext
) -> tuple[Evaluation | None, str]:
    """What is served, judged on the challenger's split, and where its numbers come from; or None, and why.

    Raises:
        _UntrainableError: its recipe would have to be trained, and cannot.
    """
    try:
        manifest = store.manifest(store.pointer().bundle_id)
    except BundleError as error:
        return None, f"nothing to compare with: {error}"
    kept = Evaluation.read(store.path(manifest.bundle_id) / "reports")
    if kept is not None and kept.split_hashes == challenger.split_hashes:
        return kept, ""
    try:
        theirs, choice = recipe_of(manifest.recipe)
    except (KeyError, TypeError, ValueError) as error:
        raise _UntrainableError(
            f"the recipe of bundle {manifest.bundle_id} cannot be trained by this version"
        ) from error
    # The seconds grow with the ratings, and say nothing that the choices in the recipe do not.
    ranker = replace(theirs.ranker, selection_seconds=recipe.ranker.selection_seconds)
    theirs = replace(theirs, ranker=ranker, protocol=recipe.protocol, threads=recipe.threads)
    if theirs == recipe:
        return None, "the same recipe is served, trained on other ratings"
    job.progress.console.print(
        f"Measuring the recipe of bundle {manifest.bundle_id} on the new split, to compare"
    )
    # By name: after a rollback another bundle is the champion of the same job.
    part = job.part(f"champion-{manifest.bundle_id}")
    # What is served has the λ, the sources and the features that it has.
    theirs = replace(theirs, choose_regularization=False, choose_sources=False, choose_features=False)
    try:
        again = measure(ratings, replace(part, recipe=theirs), choice=choice, validate=True)
    except TrainingError as error:
        raise _UntrainableError(
            f"the recipe of bundle {manifest.bundle_id} cannot be trained on these ratings: {error}"
        ) from error
    return Evaluation.of(again, job.table.movies.ids), "its recipe was trained on the new split: "
