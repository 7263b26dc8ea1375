"""Which of a user's likes speak most for a candidate (Hu, Koren and Volinsky 2008, section 5)."""

from typing import Final

import numpy as np
import numpy.typing as npt

from serving.fold_in import MAX_RATINGS, FoldIn
from serving.ids import Rows
from serving.ratings import LIKED, History

# A candidate's reasons are looked for among so many: it bounds the time for users of very many likes.
_MAX_LIKES: Final = 1_000


def reasons_for(
    movie_rows: Rows, history: History, fold_in: FoldIn, n_reasons: int
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The likes that add most to the scores of candidates.

    Args:
        movie_rows: shape (n_candidates,), the candidates.
        history: all that is known of the user; the newest 1000 likes are looked at.
        fold_in: what the user's vector comes from, or would.
        n_reasons: how many to name for each candidate.

    Returns:
        Shapes (n_candidates, n_reasons), strongest first: liked movies, -1 where fewer speak for a candidate;
        and what each adds to its score, positive, 0 where there is none.
    """
    history = history.newest(MAX_RATINGS)  # no other has a part in the vector
    likes = np.flatnonzero(history.values >= LIKED)[-_MAX_LIKES:]
    terms = fold_in.score_terms(history, likes, movie_rows)
    candidates = np.arange(movie_rows.size)
    strongest = np.zeros((movie_rows.size, n_reasons), dtype=np.intp)
    weights = np.zeros((movie_rows.size, n_reasons), dtype=np.float32)
    for place in range(min(n_reasons, likes.size)):  # three passes cost less than any sorting
        best = terms.argmax(axis=1)
        strongest[:, place] = best
        weights[:, place] = terms[candidates, best]
        terms[candidates, best] = -np.inf
    speaks = (weights > 0) & np.isfinite(weights)
    liked = history.movie_rows[likes[strongest]] if likes.size else strongest
    return np.where(speaks, liked, -1).astype(np.int32), np.where(speaks, weights, np.float32(0))
