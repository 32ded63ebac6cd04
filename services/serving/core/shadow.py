"""Ranking once more with a head on trial: after the answer, seen by nobody, never waited for.

A match that is drawn goes into a bounded queue, from which one at a time is ranked again outside
the matches' own threads; a full queue drops and counts. What this process has seen of a challenger
is kept as sums, for the scheduler to be told: each report repeats all of it, so none is missed.
"""

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.serving.core.errors import UserNotFoundError
from services.serving.core.find_matches import MatchRequest, MatchResult, find_matches
from services.serving.core.loaded_head import ServedDomain, Trial
from services.serving.core.ports import SHADOW
from services.serving.core.stages import JUDGE

QUEUE_MATCHES_MAX = 100
ERROR_CHARACTERS_MAX = 1_000

Numbers = npt.NDArray[np.int32]
RolloutKey = tuple[str, str]
"""Tenant and rollout id."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A page as it was shown, and as the challenger would have had it."""

    overlap: float
    """Share of those shown who would have been shown too."""
    correlation: float | None
    """Spearman's, over those in both pages; None for fewer than two."""
    challenger_seconds: float
    incumbent_seconds: float


Observer = Callable[[str, Comparison | None], None]
"""Told "compared", "failed" or "dropped" of each match, and the first with its comparison."""


@dataclass(slots=True)
class TrialFigures:
    """Sums over the matches that a challenger has ranked here."""

    matches_count: int = 0
    errors_count: int = 0
    dropped_count: int = 0
    overlap_sum: float = 0.0
    rank_correlation_sum: float = 0.0
    correlated_count: int = 0
    challenger_seconds_sum: float = 0.0
    incumbent_seconds_sum: float = 0.0
    error: str = ""

    def add(self, comparison: Comparison) -> None:
        """Counts a match."""
        self.matches_count += 1
        self.overlap_sum += comparison.overlap
        self.challenger_seconds_sum += comparison.challenger_seconds
        self.incumbent_seconds_sum += comparison.incumbent_seconds
        if comparison.correlation is not None:
            self.rank_correlation_sum += comparison.correlation
            self.correlated_count += 1


class TrialJournal:
    """What this process has seen of challengers. For one event loop."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._figures: dict[RolloutKey, TrialFigures] = {}
        self._untold: set[RolloutKey] = set()

    def compared(self, key: RolloutKey, comparison: Comparison) -> None:
        """Counts a match that both heads ranked."""
        self._touch(key).add(comparison)
        self._observe("compared", comparison)

    def failed(self, key: RolloutKey, message: str) -> None:
        """Counts a match that the challenger could not rank, or that it cannot be loaded."""
        figures = self._touch(key)
        figures.errors_count += 1
        figures.error = figures.error or message[:ERROR_CHARACTERS_MAX]
        self._observe("failed", None)

    def dropped(self, key: RolloutKey) -> None:
        """Counts a match that found the queue full."""
        self._touch(key).dropped_count += 1
        self._observe("dropped", None)

    def untold(self) -> list[tuple[RolloutKey, TrialFigures]]:
        """What has changed since it was last told, and counts as told from now on."""
        found = [(key, dataclasses.replace(self._figures[key])) for key in sorted(self._untold)]
        self._untold.clear()
        return found

    def tell_again(self, key: RolloutKey) -> None:
        """Takes back that a rollout was told."""
        if key in self._figures:
            self._untold.add(key)

    def keep(self, rollouts: Collection[RolloutKey]) -> None:
        """Forgets what has been told of rollouts that are over."""
        for key in set(self._figures) - set(rollouts) - self._untold:
            del self._figures[key]

    def _touch(self, key: RolloutKey) -> TrialFigures:
        self._untold.add(key)
        return self._figures.setdefault(key, TrialFigures())


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowMatch:
    """A match that waits to be ranked again."""

    key: RolloutKey
    challenger: ServedDomain
    wish: MatchRequest
    shown: Numbers
    """Users' numbers, best first."""
    seconds: float
    """Time that the head in use took."""


class ShadowRanker:
    """Takes a share of the answered first pages and ranks them again."""

    def __init__(self, journal: TrialJournal) -> None:
        self._journal = journal
        self._waiting: asyncio.Queue[ShadowMatch] = asyncio.Queue(QUEUE_MATCHES_MAX)

    def offer(
        self, tenant: str, served: ServedDomain, wish: MatchRequest, result: MatchResult
    ) -> None:
        """Takes an answered match if it is drawn. Returns at once."""
        trial = served.trial
        if trial is None or not _drawn(trial, wish):
            return
        match = ShadowMatch(
            key=(tenant, trial.desired.rollout_id),
            challenger=trial.challenger,
            wish=wish,
            shown=result.numbers,
            seconds=sum(result.seconds.values()),
        )
        try:
            self._waiting.put_nowait(match)
        except asyncio.QueueFull:
            self._journal.dropped(match.key)

    async def run(self) -> None:
        """Ranks what waits, one after the other, for ever."""
        while True:
            await self.rank(await self._waiting.get())

    async def rank(self, match: ShadowMatch) -> None:
        """Ranks one match again, in a thread that no match waits for."""
        started = time.perf_counter()
        try:
            result = await asyncio.to_thread(find_matches, match.challenger, match.wish)
        except UserNotFoundError:
            return  # erased since the answer
        except Exception as error:  # whatever a head may do
            self._journal.failed(match.key, repr(error))
            return
        seconds = time.perf_counter() - started
        overlap, correlation = compare_pages(match.shown, result.numbers)
        comparison = Comparison(overlap, correlation, seconds, match.seconds)
        self._journal.compared(match.key, comparison)


def _drawn(trial: Trial, wish: MatchRequest) -> bool:
    """Later pages begin at a place in the other head's order, and a judge would ask again."""
    if trial.desired.step != SHADOW or wish.after is not None or wish.stages[JUDGE].enabled:
        return False
    return random.random() < trial.desired.share  # noqa: S311  # a sample


def compare_pages(shown: Numbers, again: Numbers) -> tuple[float, float | None]:
    """Share of those shown who are in the other page too, and the order of these in both.

    Spearman's correlation of their ranks; None for fewer than two.
    """
    common, here, there = np.intersect1d(shown, again, return_indices=True)
    overlap = len(common) / len(shown) if len(shown) else 1.0
    n = len(common)
    if n < 2:
        return overlap, None
    distances = here.argsort().argsort() - there.argsort().argsort()
    return overlap, float(1 - 6 * (distances**2).sum() / (n * (n**2 - 1)))
