"""From scores to lists, on four movies."""

import numpy as np

from training.models.lists import best_unseen, else_popular


def test_the_best_unseen_movies_come_best_first() -> None:
    scores = np.array([0.3, 0.9, -np.inf, 0.5])
    seen = np.array([1], dtype=np.int32)
    assert best_unseen(scores, seen, 4).tolist() == [3, 0]
    assert best_unseen(scores, seen, 1).tolist() == [3]
    assert scores.tolist() == [0.3, 0.9, -np.inf, 0.5]


def test_who_has_no_list_gets_what_is_popular() -> None:
    rows = [np.array(movies, dtype=np.int32) for movies in ([2], [], [0, 1], [3])]
    assert [found.tolist() for found in else_popular(rows[:2], rows[2:])] == [[2], [3]]
