"""The rules of requests that no table of limits can state; the others are in `serving.limits`."""

from movierec.gateway.v1 import movie_service_pb2 as public
from serving.checks import PUBLIC, require_none
from serving.errors import FieldViolation
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
