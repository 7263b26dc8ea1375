"""A part of the users, for a quick try: every tenth, from the least to the most active."""

from typing import Final

import numpy as np

from serving.ratings import Ratings

SHARE: Final = 0.1
"""Of the users."""
_SEED: Final = 0


def active_and_idle(ratings: Ratings, share: float = SHARE) -> Ratings:
    """Ratings of a share of the users, drawn evenly over their activity; always the same ones.

    Users are put in the order of their number of ratings and cut into as many strata as users are wanted;
    each stratum gives one at random, so that the share of active and of idle users stays. The
    share of users is above 0, at most 1; at least one is kept.
    """
    counts = ratings.counts()
    by_activity = np.argsort(counts, kind="stable")
    strata = np.array_split(by_activity, max(1, round(share * counts.size)))
    rng = np.random.default_rng(_SEED)
    return ratings.of_users(np.sort([rng.choice(stratum) for stratum in strata]))
