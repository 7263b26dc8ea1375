"""Promotion without the checks of the command: of what is the candidate now."""

from mlflow.entities.model_registry import ModelVersion

from training.release.registry import CANDIDATE, Registry


def holder_of(alias: str, registry: Registry) -> ModelVersion:
    """The version that has an alias."""
    version = registry.aliased(alias)
    assert version is not None
    return version


def promote_candidate(registry: Registry) -> tuple[str, str]:
    """Version and bundle_id of the champion that it made."""
    return registry.promote(holder_of(CANDIDATE, registry))
