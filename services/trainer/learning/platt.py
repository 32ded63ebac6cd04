"""Scores as probabilities: a logistic curve through them (Platt 1999), by Newton's method."""

import numpy as np
import numpy.typing as npt

STEPS = 50
RIDGE = 1e-3
CHANCE_MIN = 1e-6

Floats = npt.NDArray[np.float64]


def cross_fit(scores: Floats, positive: Floats, sides: npt.NDArray[np.bool_]) -> Floats:
    """Probabilities [n] of scores [n]: those of one side by the curve of the other."""
    probabilities = np.empty(len(scores))
    for side in (False, True):
        own, other = sides == side, sides != side
        slope, offset = _fit(scores[other], positive[other])
        probabilities[own] = _sigmoid(slope * scores[own] + offset)
    return probabilities


def _fit(scores: Floats, positive: Floats) -> tuple[float, float]:
    """Slope and offset; a flat half without both classes has nothing to tell but the scores."""
    if not 0 < positive.sum() < len(positive):
        return 1.0, 0.0
    inputs = np.stack([scores, np.ones(len(scores))], axis=1)
    # Platt's targets keep the curve of what can be separated from becoming a step.
    yes, no = positive.sum(), len(positive) - positive.sum()
    targets = np.where(positive > 0, (yes + 1) / (yes + 2), 1 / (no + 2))
    weights = np.array([1.0, 0.0])
    for _ in range(STEPS):
        chances = _sigmoid(inputs @ weights)
        curvature = np.maximum(chances * (1 - chances), CHANCE_MIN)
        gradient = inputs.T @ (chances - targets) + RIDGE * weights
        hessian = (inputs * curvature[:, None]).T @ inputs + RIDGE * np.eye(2)
        weights = weights - np.linalg.solve(hessian, gradient)
    return float(weights[0]), float(weights[1])


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(values, -40, 40)))
