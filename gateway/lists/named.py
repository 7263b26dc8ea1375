"""What requests name: a genre or a bundle that is not held is a mistake, and no reason for another list."""

from collections.abc import Mapping

from gateway.lists.catalogue import Catalogues
from serving.errors import FieldViolation, InvalidArgumentError
from serving.filters import MovieFilter


def require_genres(catalogues: Catalogues, filters: Mapping[str, MovieFilter]) -> None:
    """Checks that the catalogue has the genres that filters name.

    A list may come from any bundle that is held: what one of them has is let through.

    Args:
        catalogues: those that are held.
        filters: by what stands before `filter` in the request, as `requests[1].`.

    Raises:
        InvalidArgumentError: it lacks some; all are named.
        UnavailableError: no bundle is loaded.
    """
    if not any(one.genres or one.exclude_genres for one in filters.values()):
        return
    genres = {name: None for held in catalogues.held() for name in held.movies.used_genres}
    known = {name.casefold() for name in genres}
    violations = [
        FieldViolation(
            f"{path}filter.{field}[{place}]",
            f"must be a genre of the catalogue, which has no {name!r}; it has {', '.join(genres)}",
        )
        for path, movie_filter in filters.items()
        for field, names in (("genres", movie_filter.genres), ("exclude_genres", movie_filter.exclude_genres))
        for place, name in enumerate(names)
        if name.casefold() not in known
    ]
    if violations:
        raise InvalidArgumentError(violations)


def require_bundles(catalogues: Catalogues, bundle_ids: Mapping[str, str]) -> None:
    """Checks that the bundles which requests name are held.

    Args:
        catalogues: those that are held.
        bundle_ids: by what stands before `bundle_id` in the request; empty ones name none.

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
