"""Filters against the catalogue: a genre that it lacks is a mistake, and not a list without movies."""

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
