"""The arrays of a group, built by the module that has the name of the group's own."""

from importlib import import_module

from serving.features.group import FeatureGroup
from serving.ratings import Ratings
from training.checkpoints import Arrays
from training.data.movielens.movies import MovieTable
from training.engine.engine import Engine


def build(group: type[FeatureGroup], ratings: Ratings, table: MovieTable, engine: Engine) -> Arrays:
    """What `group`, which has arrays of its own, needs: built from `ratings` alone.

    Args:
        group: a module of this package with the name of its module has a function `build`; what needs no
            engine ignores it.
        ratings: the history; there is at least one.
        table: the catalogue.
        engine: where it is done; the result does not depend on it.
    """
    module = group.__module__.rpartition(".")[2]
    arrays: Arrays = import_module(f"training.features.{module}").build(ratings, table, engine)
    return arrays
