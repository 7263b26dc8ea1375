"""What a search writes down, and when one goes on with the trials of another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.small import RECIPE
from training.experiments.studies import Study, Trial, Tuning, study_name
from training.models.recipe import RULES

STUDY = Study((Trial(0, {"factors": 64}, 0.1), Trial(2, {"factors": 8}, 0.3), Trial(3, {"factors": 32}, 0.3)))


def test_the_earliest_of_equals_is_the_best() -> None:
    assert STUDY.best.number == 2


def test_what_is_written_is_read_back_and_names_the_best(tmp_path: Path) -> None:
    tuning = Tuning("mine", {"als": STUDY})
    tuning.write(tmp_path / "best.json")
    content = json.loads((tmp_path / "best.json").read_text())
    assert content["als"] == {"factors": 8}
    assert Tuning.of(content) == tuning
    assert Tuning.of({"als": {"factors": 8}}) is None


def test_trials_of_other_data_recipes_or_rules_are_another_study(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        study_name("inputs", "digest", RECIPE),
        study_name("others", "digest", RECIPE),
        study_name("inputs", "sample", RECIPE),
        study_name("inputs", "digest", replace(RECIPE, seed=1)),
    ]
    monkeypatch.setattr("training.experiments.studies.RULES", RULES + 1)
    names.append(study_name("inputs", "digest", RECIPE))
    assert len(set(names)) == len(names)
