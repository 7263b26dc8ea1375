"""EASE's weights between movies, those of the group `ease`."""

from training.features.ease import build

__all__ = ["build"]
