"""What a slot may be expected to earn: a logistic model of both heads' scores and the rank.

It is what doubly robust estimates lean on, and they stay right where it is wrong. Each half of the
seekers is foretold by what the other half taught, so that no slot is foretold by itself.

Shapes: n slots, f features.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NEWTON_STEPS = 12
RIDGE = 1.0
_LOGIT_MAX = 30.0


class RewardModel:
    """Fitted on slots with their rewards, in two halves."""

    def __init__(self, features_nf: Floats, rewards: Floats, side: npt.NDArray[np.bool_]) -> None:
        """`side` says which half each slot belongs to."""
        self._side = side
        # The coefficients that a half is foretold by are the other half's.
        self._by_side = [_fit(features_nf[side != half], rewards[side != half]) for half in (0, 1)]

    def expect(self, features_nf: Floats) -> Floats:
        """Expected rewards of the same slots, whoever stands there now."""
        coefficients = np.where(self._side[:, np.newaxis], self._by_side[1], self._by_side[0])
        return _sigmoid((features_nf * coefficients).sum(axis=1))


def _fit(features: Floats, rewards: Floats) -> Floats:
    """Newton's method on the ridge-penalised log-loss."""
    coefficients = np.zeros(features.shape[1])
    for _ in range(NEWTON_STEPS):
        chances = _sigmoid(features @ coefficients)
        curvature = features.T @ (features * (chances * (1 - chances))[:, np.newaxis])
        slope = features.T @ (rewards - chances) - RIDGE * coefficients
        coefficients += np.linalg.solve(curvature + RIDGE * np.eye(len(coefficients)), slope)
    return coefficients


def _sigmoid(logits: Floats) -> Floats:
    chances: Floats = 1 / (1 + np.exp(-np.clip(logits, -_LOGIT_MAX, _LOGIT_MAX)))
    return chances
