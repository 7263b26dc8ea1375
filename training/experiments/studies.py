"""What tuning tried and what it found: the file between `tune` and `train --params`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from training.models.recipe import RULES, Recipe

Parameters: TypeAlias = Mapping[str, Any]
"""By name, as the fields of `AlsParameters` or `RankerParameters`."""


@dataclass(frozen=True)
class Trial:
    """What one set of parameters reached."""

    number: int
    parameters: Parameters
    ndcg: float
    """nDCG@10 on the validation part."""


@dataclass(frozen=True)
class Study:
    """All that was tried of one stage."""

    trials: tuple[Trial, ...]
    """Complete ones, in order; the first has the defaults. At least one."""

    @property
    def best(self) -> Trial:
        """That with the highest nDCG@10, the earliest of equals."""
        return max(self.trials, key=lambda trial: trial.ndcg)


@dataclass(frozen=True)
class Tuning:
    """The studies of one run of `tune`."""

    dataset_tag: str
    studies: Mapping[str, Study]
    """By stage: als, ranker."""

    def write(self, path: Path) -> None:
        """Writes the best parameters by stage, as `train --params` takes them, and all trials."""
        best = {stage: study.best.parameters for stage, study in self.studies.items()}
        tried = _TUNING.dump_python(self, mode="json")
        path.write_text(json.dumps({**best, "tuning": tried}, indent=1), encoding="utf-8")

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Tuning | None":
        """The trials in the content of a file of parameters; None when it was written by hand.

        Raises:
            ValueError: the file holds something else.
        """
        return _TUNING.validate_python(content["tuning"]) if "tuning" in content else None


def study_name(inputs: str, digest: str, recipe: Recipe) -> str:
    """Name of the studies of a recipe: trials of another recipe, of other rules or data, do not compare.

    The catalogue counts by `inputs`, and by `digest` which of its ratings are a sample.
    """
    return hashlib.sha256("\0".join((inputs, digest, repr(recipe), str(RULES))).encode()).hexdigest()[:16]


_TUNING: TypeAdapter[Tuning] = TypeAdapter(Tuning)
