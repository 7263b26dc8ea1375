"""Variety in a list: maximal marginal relevance (Carbonell and Goldstein, 1998)."""

import numpy as np
import numpy.typing as npt


def diversified(
    scores: npt.NDArray[np.float64], unit_factors: npt.NDArray[np.float32], *, diversity: float, limit: int
) -> npt.NDArray[np.intp]:
    """Places of the chosen candidates, in order: the best first, then what is good and unlike those chosen.

    With r the scores stretched to 0 to 1, each next one maximises `(1 - d) * r - d * max cos`, the highest
    cosine to any that is chosen already.

    Args:
        scores: shape (n,), finite, in ascending movie_id: ties go to the lower.
        unit_factors: shape (n, n_factors): vectors of length one, or zero rows.
        diversity: d, 0 (relevance only) to 1 (as different as possible).
        limit: candidates to choose; fewer come back when there are fewer.
    """
    n_candidates = scores.size
    if n_candidates == 0 or limit == 0:
        return np.empty(0, np.intp)
    span = scores.max() - scores.min()
    relevance = (scores - scores.min()) / span if span > 0 else np.zeros(n_candidates)
    cosines = unit_factors @ unit_factors.T
    chosen = np.empty(min(limit, n_candidates), np.intp)
    chosen[0] = np.argmax(scores)
    closest = np.full(n_candidates, -np.inf)
    taken = np.zeros(n_candidates, np.bool_)
    for place in range(1, chosen.size):
        latest = chosen[place - 1]
        taken[latest] = True
        np.maximum(closest, cosines[latest], out=closest)
        value = (1 - diversity) * relevance - diversity * closest
        value[taken] = -np.inf
        chosen[place] = np.argmax(value)
    return chosen
