"""Bundles that requests name: one that is not held is a mistake, and not another bundle's list."""

from collections.abc import Mapping

from gateway.lists.catalogue import Catalogues
from serving.errors import FieldViolation, InvalidArgumentError


def require_bundles(catalogues: Catalogues, bundle_ids: Mapping[str, str]) -> None:
    """Checks that the bundles which requests name are held.

    Args:
        catalogues: those that are held.
        bundle_ids: by what stands before `bundle_id` in the request, as `requests[1].`; empty ones name none.

    Raises:
        InvalidArgumentError: some are not; all are named.
        UnavailableError: no bundle is loaded.
    """
    if not any(bundle_ids.values()):
        return
    held = [catalogue.bundle_id for catalogue in catalogues.held()]
    violations = [
        FieldViolation(f"{path}bundle_id", f"must be empty, or a bundle that is served: {', '.join(held)}")
        for path, bundle_id in bundle_ids.items()
        if bundle_id and bundle_id not in held
    ]
    if violations:
        raise InvalidArgumentError(violations)
