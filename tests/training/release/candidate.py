"""Promotion without the checks of the command: of what is the candidate now."""

from training.release.registry import CANDIDATE, Registry


def promote_candidate(registry: Registry) -> tuple[str, str]:
    """Version and bundle_id of the champion that it made."""
    candidate = registry.aliased(CANDIDATE)
    assert candidate is not None
    return registry.promote(candidate)
