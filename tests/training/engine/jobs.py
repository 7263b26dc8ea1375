"""Jobs in small, as bytes that can be compared between engines."""

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Trained
from tests.training.small import N_MOVIES, RECIPE, tastes
from training.engine.engine import Engine
from training.models.als_shards import fit_item_factors
from training.models.fill import fill


def nothing() -> None:
    """Progress that nobody watches."""


def factors(engine: Engine, progress: Callable[[], None] = nothing) -> bytes:
    return fit_item_factors(
        tastes(), N_MOVIES, RECIPE.als, seed=0, engine=engine, progress=progress
    ).tobytes()


def filled(trained: Trained, out: Path, engine: Engine, advance: Callable[[], None] = nothing) -> bytes:
    bundle = trained.root / "bundles" / trained.bundle_id
    n_users = len(trained.two_stage.stage.ratings.users)
    fill(bundle, n_users, 20, out, engine=engine, advance=advance)
    return out.read_bytes()
