"""The arrays of a group, built by the module that has the name of the group's own."""

from importlib import import_module

from serving.features.group import FeatureGroup
from serving.ratings import Ratings
from training.checkpoints import Arrays
from training.data.movielens.movies import MovieTable
from training.engine.engine import Engine


def build(group: type[FeatureGroup], ratings: Ratings, table: MovieTable, engine: Engine) -> Arrays:
    """What `group`, which has arrays of its own, needs: built from `ratings` alone, at least one.

    The module of this package that is named as that of the group has a function `build`, whose result does
    not depend on the engine.
    """
    module = group.__module__.rpartition(".")[2]
    arrays: Arrays = import_module(f"training.features.{module}").build(ratings, table, engine)
    return arrays
