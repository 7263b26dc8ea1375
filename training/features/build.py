"""The arrays of a group, built by the module of its name."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeAlias

import numpy.typing as npt

from serving.features.group import FeatureGroup
from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


def build(group: type[FeatureGroup], ratings: Ratings, table: MovieTable) -> Arrays:
    """What `group`, which has arrays of its own, needs: built from `ratings` alone.

    Args:
        group: whose module in this package has a function `build`.
        ratings: the history; there is at least one.
        table: the catalogue.
    """
    arrays: Arrays = import_module(f"training.features.{group.NAME}").build(ratings, table)
    return arrays
