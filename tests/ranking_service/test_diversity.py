"""Maximal marginal relevance on vectors that can be checked by eye."""

import numpy as np
import pytest

from ranking_service.diversity import diversified

SCORES = np.array([3.0, 2.0, 1.0, 0.0])
DIRECTIONS = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], dtype=np.float32)
"""The second is like the first, the third at a right angle, the last its opposite."""


@pytest.mark.parametrize(
    ("diversity", "order"),
    [
        (0.0, [0, 1, 2, 3]),  # relevance only
        (1.0, [0, 3, 2, 1]),  # the opposite, then the one at a right angle to both
        # r = 1, 2/3, 1/3, 0; after the first: 1/3 - 1/2 < 1/6 - 0 < 0 + 1/2; then 1/3 - 1/2 < 1/6 - 0
        (0.5, [0, 3, 2, 1]),
        # 0.8·2/3 - 0.2 = .33, 0.8/3 = .27, 0.2; then the third .27, the last 0.2
        (0.2, [0, 1, 2, 3]),
    ],
)
def test_order(diversity: float, order: list[int]) -> None:
    assert diversified(SCORES, DIRECTIONS, diversity=diversity, limit=4).tolist() == order


def test_against_the_definition() -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(size=30)
    unit_factors = generator.normal(size=(30, 8)).astype(np.float32)
    unit_factors /= np.linalg.norm(unit_factors, axis=1, keepdims=True)
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    chosen = [int(scores.argmax())]
    while len(chosen) < 10:
        values = {
            i: 0.7 * relevance[i] - 0.3 * max(float(unit_factors[i] @ unit_factors[j]) for j in chosen)
            for i in range(30)
            if i not in chosen
        }
        chosen.append(max(values, key=lambda i: values[i]))
    assert diversified(scores, unit_factors, diversity=0.3, limit=10).tolist() == chosen


@pytest.mark.parametrize("limit", [0, 1, 3, 4, 100])
def test_limit(limit: int) -> None:
    places = diversified(SCORES, DIRECTIONS, diversity=0.9, limit=limit)
    assert places.size == min(limit, 4)
    assert len(set(places.tolist())) == places.size


def test_ties_go_to_the_lower_place() -> None:
    for n in (4, 0):
        same = np.zeros((n, 2), dtype=np.float32)
        assert diversified(np.ones(n), same, diversity=0.5, limit=4).tolist() == list(range(n))
