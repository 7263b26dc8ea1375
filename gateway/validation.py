"""The rules of requests that no table of limits can state; the others are in `serving.limits`."""

from collections.abc import Mapping

from gateway.lists.catalogue import Catalogues
from movierec.gateway.v1 import movie_service_pb2 as public
from serving.checks import PUBLIC, require_none
from serving.errors import FieldViolation
from serving.filters import MovieFilter
from serving.limits import CONTRIBUTIONS_RULE, DEFAULT_LIMIT, LIMITS, MAX_CONTRIBUTIONS, MAX_LIMIT


def page_size(limit: int) -> int:
    """The movies that a limit stands for."""
    return min(limit or DEFAULT_LIMIT, MAX_LIMIT)


def contributions(request: public.ListPersonalMoviesRequest) -> int:
    """How many contributions a request asks for, whether or not it keeps the rules."""
    most = int(LIMITS["explain_features"].high)  # what asks for more is refused, and not to cost all places
    return max(page_size(request.limit), 0) * min(max(request.explain_features, 0), most)


def check_batch(batch: public.BatchListPersonalMoviesRequest) -> None:
    """Checks a batch: all of its requests are answered, or none.

    Raises:
        InvalidArgumentError: one of them, or the batch as a whole, breaks rules.
    """
    violations = PUBLIC.violations(batch)
    if LIMITS["requests"].hold(len(batch.requests)):  # else there may be a million of them
        if sum(map(contributions, batch.requests)) > MAX_CONTRIBUTIONS:
            violations.append(FieldViolation("requests", CONTRIBUTIONS_RULE))
        violations += (
            FieldViolation(f"requests[{place}].fallback_policy", "must not be DENY")
            for place, request in enumerate(batch.requests)
            if request.fallback_policy == public.FALLBACK_POLICY_DENY
        )
    require_none(violations)


def require_genres(catalogues: Catalogues, filters: Mapping[str, MovieFilter]) -> None:
    """Checks that the catalogue has the genres that filters name: another one is a mistake.

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
    all_genres = ", ".join(genres)
    violations = [
        FieldViolation(
            f"{path}filter.{field}[{place}]",
            f"must be a genre of the catalogue, which has no {name!r}; it has {all_genres}",
        )
        for path, movie_filter in filters.items()
        for field, names in (("genres", movie_filter.genres), ("exclude_genres", movie_filter.exclude_genres))
        for place, name in enumerate(names)
        if name.casefold() not in known
    ]
    require_none(violations)


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
    require_none(violations)
