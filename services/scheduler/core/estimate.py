"""How long a run will take, learned from how long earlier ones took."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_PRIOR_SECONDS = 10.0
_PRIOR_SECONDS_PER_TRIPLET = 0.0005
_PRIOR_RUNS = 1.0
"""The prior weighs as much as one run: it speaks alone at first and soon not at all."""

HISTORY_RUNS = 50
"""How many past runs an estimate is made from."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """What a successful run took, from lease to end."""

    triplets_count: int
    seconds: float


def estimate_minutes(history: Sequence[PastRun], triplets_count: int, runs_ahead: int) -> int:
    """Minutes until a run that is queued now will have ended, at least 1.

    Every past run scales the prior's guess for its size; their mean scale is applied to this one.
    """
    scales = [past.seconds / _prior(past.triplets_count) for past in history]
    scale = (_PRIOR_RUNS + sum(scales)) / (_PRIOR_RUNS + len(scales))
    seconds = scale * _prior(triplets_count) * (1 + runs_ahead)
    return max(1, math.ceil(seconds / 60))


def _prior(triplets_count: int) -> float:
    return _PRIOR_SECONDS + _PRIOR_SECONDS_PER_TRIPLET * triplets_count
