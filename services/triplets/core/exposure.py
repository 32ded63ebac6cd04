"""What a match showed: recorded well after the answer, read to know where an outcome came from."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

KEEP_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """How a page came to stand in its order."""

    share: float
    """Probability with which it was shuffled."""
    explored: bool
    """Whether it was."""
    ranker_ranks: Sequence[int]
    """From 1, one a candidate."""
    propensities: Sequence[float]
    """Probability with which each candidate stands where it was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One match. People are numbers: nothing here names whoever is erased."""

    match_id: str
    tenant: str
    domain: str
    head: str
    tier: str
    run_id: str
    match_time: datetime.datetime
    seeker: int
    first_rank: int
    candidates: Sequence[int]
    """In the order of the page: best first, unless it was explored."""
    scores: Sequence[float]
    exploration: Exploration | None = None
    """None where the ranker's order was certain to be shown."""
    rollout_id: str = ""
    arm: str = ""
    """challenger or incumbent, in a rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedExposure:
    """One match, and the names of those who are still there."""

    exposure: Exposure
    user_ids: dict[int, str]
    """By number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCounts:
    """What one arm of a rollout has shown and what came of it; sums are over seekers."""

    arm: str
    matches_count: int
    seekers_count: int
    """Those with outcomes."""
    outcomes_count: int
    positives_count: int
    outcomes_squared_sum: float
    products_sum: float
    positives_squared_sum: float


class ExposureStore(Protocol):
    """Where exposures are kept."""

    async def record(self, exposures: Sequence[Exposure]) -> None:
        """Keeps exposures. One that is known stays as it is; one of no known domain is left out."""
        ...

    async def read(self, tenant: str, match_id: str) -> NamedExposure | None:
        """Returns a match of a tenant."""
        ...

    async def count_arms(self, tenant: str, domain: str, rollout_id: str) -> Sequence[ArmCounts]:
        """Counts the arms of a rollout that have answered anyone.

        Outcomes count that name one of its matches, its seeker and somebody whom it showed. Reads
        the rollout's own matches and their outcomes, so the cost grows with the rollout.
        """
        ...

    async def prune(self) -> None:
        """Forgets what is older than KEEP_DAYS."""
        ...
