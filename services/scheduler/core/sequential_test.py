"""Two arms compared as often as one likes: a confidence sequence for the gain in positive outcomes.

The mixture sequential probability ratio test for a difference of means (Robbins 1970; Johari,
Koomen, Pekelis and Walsh, "Always Valid Inference", Operations Research 70, 2022), turned into
intervals: with probability 1 - ALPHA they hold the true difference at all looks together, so any
look may decide. Seekers were drawn into the arms and their outcomes hang together, so the variance
is that of a ratio of sums over seekers (Cochran 1977, 6.4), not of outcomes. Two made-up seekers an
arm, one positive and one not, keep a small sample of equal outcomes from being certain; with fewer
than EFFECTIVE_SEEKERS_MIN nothing is said, because the normal approximation would be none.
"""

import math
from dataclasses import dataclass

from services.scheduler.core.verdict import Interval

ALPHA = 0.05
EFFECTIVE_SEEKERS_MIN = 10
MIXING_DEVIATION = 0.1
"""Of the gains that the test is tuned to: it is valid for any, and quickest around these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCounts:
    """What one arm has shown and what came of it; sums are over seekers."""

    matches_count: int = 0
    seekers_count: int = 0
    """Those with outcomes."""
    outcomes_count: int = 0
    positives_count: int = 0
    outcomes_squared_sum: float = 0.0
    """Of n², for seekers with n outcomes, p of them positive."""
    products_sum: float = 0.0
    """Of n·p."""
    positives_squared_sum: float = 0.0
    """Of p²."""

    @property
    def rate(self) -> float:
        """Share of positive outcomes; 0 without any."""
        return self.positives_count / self.outcomes_count if self.outcomes_count else 0.0

    @property
    def effective_seekers_count(self) -> float:
        """As many seekers with as many outcomes each would tell as much (Kish 1965, 8.2)."""
        return self.outcomes_count**2 / self.outcomes_squared_sum if self.outcomes_count else 0.0


def confidence_sequence(challenger: ArmCounts, incumbent: ArmCounts) -> Interval | None:
    """The gain of the challenger's rate with bounds that hold at all looks; None if too few."""
    arms = (challenger, incumbent)
    if min(arm.effective_seekers_count for arm in arms) < EFFECTIVE_SEEKERS_MIN:
        return None
    variance = _variance(challenger) + _variance(incumbent)
    mixing = MIXING_DEVIATION**2
    both = variance + mixing
    radius = math.sqrt(variance * both / mixing * math.log(both / (variance * ALPHA**2)))
    gain = challenger.rate - incumbent.rate
    return Interval(max(gain - radius, -1.0), gain, min(gain + radius, 1.0))


def _variance(arm: ArmCounts) -> float:
    """Variance of an arm's rate, with one made-up seeker of each kind."""
    outcomes = arm.outcomes_count + 2
    rate = (arm.positives_count + 1) / outcomes
    squares = (
        (arm.positives_squared_sum + 1)
        - 2 * rate * (arm.products_sum + 1)
        + rate**2 * (arm.outcomes_squared_sum + 2)
    )
    effective = outcomes**2 / (arm.outcomes_squared_sum + 2)
    return max(squares, 0.0) / outcomes**2 * effective / (effective - 2)
