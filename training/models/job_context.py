"""What all steps of a training share."""

from dataclasses import dataclass, replace
from typing import Any

from training.checkpoints import NO_CHECKPOINTS, Checkpoints
from training.data.movielens.movies import MovieTable
from training.engine.engine import Engine
from training.models.recipe import Recipe
from training.progress import Progress


@dataclass(frozen=True)
class JobContext:
    """What all steps of a training share: what they are told, and whom they tell."""

    table: MovieTable
    """The catalogue."""
    recipe: Recipe
    progress: Progress
    """Shows the steps."""
    engine: Engine
    """Where the big steps are done; the result does not depend on it."""
    checkpoints: Checkpoints = NO_CHECKPOINTS
    """Steps that were finished before, and where to keep those to come."""

    @property
    def n_movies(self) -> int:
        """Rows of the catalogue."""
        return len(self.table.movies.ids)

    def with_recipe(self, **changes: Any) -> "JobContext":
        """The same job, by a recipe in which some fields have other values."""
        return replace(self, recipe=replace(self.recipe, **changes))

    def part(self, name: str) -> "JobContext":
        """The context of a part of the job, whose finished steps have names of their own."""
        return replace(self, checkpoints=self.checkpoints.part(name))
