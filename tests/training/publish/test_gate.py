"""The rules of the gate on numbers that can be checked by eye, and what it compares with."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from serving.bundle.manifest import MANIFEST_NAME
from serving.bundle.store import BundleStore
from tests.conftest import Trained
from tests.training.small import PROGRESS
from training.checkpoints import NO_CHECKPOINTS, Checkpoints
from training.engine.local import LocalEngine
from training.evaluation.splits import split
from training.experiments.experiment import Measurement
from training.models.job_context import JobContext
from training.models.ranker_groups import TooFewUsersError
from training.models.recipe import Recipe
from training.models.recipe_record import recipe_of, recipe_record
from training.publish import gate
from training.publish.gate import Evaluation, judge_challenger, pass_gate


def evaluation(
    two_stage: float, *, als: float = 0.1, popularity: float = 0.05, users: int = 400, spread: float = 0.0
) -> Evaluation:
    """Means by model over users; `spread` is how far the two-stage model is off for each by chance."""
    chance = np.random.default_rng(0).normal(0, spread, users)
    return Evaluation(
        split_hash="s",
        user_ids=np.arange(1, users + 1),
        ndcg={
            "popularity": np.full(users, popularity),
            "als": np.full(users, als),
            "two_stage": two_stage + chance - chance.mean(),
        },
    )


def test_the_first_bundle_has_only_its_own_baselines_to_beat() -> None:
    assert judge_challenger(evaluation(0.1), None).refusals == ()
    (refusal,) = judge_challenger(evaluation(0.09, spread=0.02), None).refusals
    assert refusal == (
        "nDCG@10 0.0900 is below ALS alone, 0.1000: -0.0100, paired 95 % interval [-0.0119, -0.0080]"
    )
    below_both = judge_challenger(evaluation(0.09, popularity=0.095), None).refusals
    assert [text.split(",")[0] for text in below_both] == [
        "nDCG@10 0.0900 is below popularity",
        "nDCG@10 0.0900 is below ALS alone",
    ]


@pytest.mark.row(49)
def test_two_percent_below_the_champion_is_tolerated_and_no_more() -> None:
    champion = evaluation(0.2)
    assert judge_challenger(evaluation(0.1961), champion).refusals == ()
    verdict = judge_challenger(evaluation(0.1959), champion)
    (refusal,) = verdict.refusals
    assert refusal.startswith("nDCG@10 0.1959 is more than 2% below what is served, 0.2000")
    assert "0.1959 against 0.2000 of what is served, on the same 400 users: -0.0041" in verdict.remark


def test_what_chance_explains_refuses_nothing() -> None:
    """As seen: 0.0311 against 0.0319, with an interval of [-0.020, +0.018], was refused."""
    challenger = evaluation(0.0311, als=0.0319, popularity=0.0315, spread=0.2)
    verdict = judge_challenger(challenger, evaluation(0.0319))
    assert verdict.refusals == ()
    over = verdict.over_served
    assert over is not None
    assert over.low < -0.015 < 0.015 < over.high
    assert f"0.0311 against 0.0319 of what is served, on the same 400 users: {over}" in verdict.remark


def test_a_handful_of_users_refuses_nothing() -> None:
    assert judge_challenger(evaluation(0.01, users=19), evaluation(0.2, users=19)).refusals == ()
    assert len(judge_challenger(evaluation(0.01, users=20), evaluation(0.2, users=20)).refusals) == 3


def test_the_validation_part_refuses_as_the_test_part_does() -> None:
    """What is better in one part and worse in the other has not been shown to be better."""
    champion = replace(evaluation(0.2), validation=evaluation(0.2))
    worse = replace(evaluation(0.3), validation=evaluation(0.15))
    verdict = judge_challenger(worse, champion)
    (refusal,) = verdict.refusals
    assert refusal.startswith("on the validation part, nDCG@10 0.1500 is more than 2% below what is served")
    assert verdict.over_served is not None
    assert verdict.over_served.mean == pytest.approx(0.1)
    below_als = replace(evaluation(0.3), validation=evaluation(0.09))
    (refusal,) = judge_challenger(below_als, None).refusals
    assert refusal.startswith("on the validation part, nDCG@10 0.0900 is below ALS alone, 0.1000")
    assert judge_challenger(replace(worse, validation=evaluation(0.2)), champion).refusals == ()
    few = replace(worse, validation=evaluation(0.0, users=19))
    assert judge_challenger(few, replace(champion, validation=evaluation(0.2, users=19))).refusals == ()


def test_evaluations_are_read_back(tmp_path: Path) -> None:
    evaluation(0.2).write(tmp_path)
    found = Evaluation.read(tmp_path)
    assert found is not None
    assert found.split_hashes == ("s", None)
    assert found.user_ids.tolist() == list(range(1, 401))
    np.testing.assert_array_equal(found.ndcg["two_stage"], evaluation(0.2).ndcg["two_stage"])
    replace(found, validation=replace(evaluation(0.1, users=30), split_hash="v")).write(tmp_path)
    both = Evaluation.read(tmp_path)
    assert both is not None
    assert both.split_hashes == ("s", "v")
    assert both.ndcg.keys() == found.ndcg.keys()
    assert both.validation is not None
    assert both.validation.user_ids.tolist() == list(range(1, 31))
    np.testing.assert_array_equal(
        both.validation.ndcg["two_stage"], evaluation(0.1, users=30).ndcg["two_stage"]
    )


def test_a_damaged_evaluation_is_none(tmp_path: Path) -> None:
    assert Evaluation.read(tmp_path) is None
    evaluation(0.2).write(tmp_path)
    file = tmp_path / "evaluation.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert Evaluation.read(tmp_path) is None
    file.write_bytes(b"")  # as a disk that was full, or lost its power, may leave it
    assert Evaluation.read(tmp_path) is None


def test_a_recipe_comes_back_out_of_the_manifest(own_bundle_root: BundleStore, trained: Trained) -> None:
    manifest = own_bundle_root.manifest(trained.bundle_id)
    recipe, choice = recipe_of(manifest.recipe)
    assert recipe_record(recipe, choice) == manifest.recipe
    assert choice.loss == trained.two_stage.choice.loss
    assert choice.iterations == trained.two_stage.choice.iterations


class Case:
    """A root with the trained bundle as the champion, and a challenger measured on the same ratings."""

    def __init__(self, store: BundleStore, trained: Trained) -> None:
        self.store = store
        self.manifest = store.manifest(trained.bundle_id)
        self.table = trained.table
        self.ratings = trained.two_stage.stage.ratings
        self.recipe, _ = recipe_of(self.manifest.recipe)
        self.judged = split(self.ratings, self.recipe.protocol)

    def measurement(self, recipe: Recipe, *, two_stage: float) -> Measurement:
        """In which each judged user has the same nDCG@10."""
        qualities = {
            model: SimpleNamespace(per_user={"ndcg_at_10": np.full(self.judged.users.size, ndcg)})
            for model, ndcg in (("popularity", 0.1), ("als", 0.1), ("two_stage", two_stage))
        }
        return cast(
            Measurement,
            SimpleNamespace(
                recipe=recipe, qualities=qualities, judged=self.judged, validation={}, validated=None
            ),
        )

    def verdict(self, measurement: Measurement, *, checkpoints: Checkpoints = NO_CHECKPOINTS) -> gate.Verdict:
        """What the gate says of a challenger."""
        job = JobContext(self.table, measurement.recipe, PROGRESS, LocalEngine(2), checkpoints)
        _, verdict = pass_gate(self.store, measurement, self.ratings, job)
        return verdict

    def keep(self, measurement: Measurement) -> None:
        """Writes what the champion reached into its bundle."""
        kept = Evaluation.of(measurement, self.table.movies.ids)
        kept.write(self.store.path(self.manifest.bundle_id) / "reports")


@pytest.fixture
def case(own_bundle_root: BundleStore, trained: Trained) -> Case:
    return Case(own_bundle_root, trained)


def test_on_an_equal_split_the_kept_numbers_are_compared(case: Case) -> None:
    case.keep(case.measurement(case.recipe, two_stage=0.4))
    other = replace(case.recipe, seed=1)
    assert case.verdict(case.measurement(other, two_stage=0.395)).refusals == ()
    (refusal,) = case.verdict(case.measurement(other, two_stage=0.3)).refusals
    assert refusal.startswith("nDCG@10 0.3000 is more than 2% below what is served, 0.4000")


def test_on_another_split_the_incumbents_recipe_is_trained_again(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps are kept by its name: a job that goes on after a rollback has another champion."""
    folder = tmp_path / "steps"
    folder.mkdir()
    asked: list[Recipe] = []
    steps: list[str] = []

    def measure(_ratings: object, job: JobContext, **_: object) -> Measurement:
        asked.append(job.recipe)
        job.checkpoints.step("one", lambda: {"a": np.array(1)})
        steps.extend(path.name for path in folder.iterdir())
        return case.measurement(job.recipe, two_stage=0.5)

    monkeypatch.setattr(gate, "measure", measure)
    challenger = case.measurement(replace(case.recipe, seed=1), two_stage=0.3)
    verdict = case.verdict(challenger, checkpoints=Checkpoints(folder))
    assert asked == [case.recipe]
    assert steps == [f"champion-{case.manifest.bundle_id}-one.npz"]
    assert verdict.remark.startswith("its recipe was trained on the new split: ")
    assert len(verdict.refusals) == 1


def test_the_same_recipe_on_other_ratings_needs_no_second_training(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "measure", None)
    # the seconds for choosing grow with the ratings
    longer = replace(case.recipe, ranker=replace(case.recipe.ranker, selection_seconds=299.0))
    verdict = case.verdict(case.measurement(longer, two_stage=0.3))
    assert verdict == gate.Verdict((), "the same recipe is served, trained on other ratings")


def test_a_recipe_that_cannot_be_trained_on_these_ratings_refuses(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job does not fail: it may be told to publish all the same."""

    def measure(*_: object, **_options: object) -> Measurement:
        raise TooFewUsersError("only 0 lists")

    monkeypatch.setattr(gate, "measure", measure)
    verdict = case.verdict(case.measurement(replace(case.recipe, seed=1), two_stage=0.3))
    bundle_id = case.manifest.bundle_id
    assert verdict.refusals == (
        f"the recipe of bundle {bundle_id} cannot be trained on these ratings: only 0 lists",
    )


def test_nothing_served_is_nothing_to_compare_with(case: Case, tmp_path: Path) -> None:
    case.store = BundleStore(tmp_path / "empty")
    assert case.verdict(case.measurement(case.recipe, two_stage=0.3)) == gate.Verdict(
        (), f"nothing to compare with: no bundle is published in {tmp_path / 'empty'}"
    )


@pytest.mark.parametrize(
    ("old", "new", "refusals", "cause"),
    [
        (
            '"format_version": 3',
            '"format_version": 2',
            [],
            ": bundle {}: its format_version is 2, and this process reads 3",
        ),
        ('"als_factors"', '"als_rank"', ["the recipe of bundle {} cannot be trained by this version"], ""),
    ],
    ids=["earlier layout", "recipe of another version"],
)
def test_what_is_served_and_cannot_be_read_is_named_and_its_recipe_refuses(
    case: Case, tmp_path: Path, old: str, new: str, *, refusals: list[str], cause: str
) -> None:
    """Without a recipe there are no numbers on another split: nobody may take the worse for the better."""
    copytree(case.store.root, tmp_path / "copy")
    case.store = BundleStore(tmp_path / "copy")
    bundle_id = case.manifest.bundle_id
    manifest = case.store.path(bundle_id) / MANIFEST_NAME
    manifest.write_text(manifest.read_text().replace(old, new))
    assert case.verdict(case.measurement(case.recipe, two_stage=0.3)) == gate.Verdict(
        tuple(one.format(bundle_id) for one in refusals),
        f"nothing to compare with{cause.format(bundle_id)}",
    )
