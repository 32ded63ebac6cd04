"""Exploration: some pages are shown in a random order, to learn what other orders would bring.

With probability s, the domain's share, a page of n people is shuffled uniformly; otherwise it
stands in the ranker's order. So whom the ranker puts at rank r is shown there with probability
(1 - s) + s / n, and everyone else of the page with s / n. The people shown are the same either way.

Whatever is random here is read from the match's id: the SHA-256 of "<match_id>:0" says whether the
page is shuffled, that of "<match_id>:<rank>" by what the ranker's candidates are then sorted.
Anybody who has the record can check it.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import Rows
from services.serving.core.find_matches import MatchResult

_DRAWS = 1 << 64
"""Numbers that may be drawn: a digest's first eight bytes."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """How a page of n came to stand in its order."""

    share: float
    """Probability that it was shuffled."""
    explored: bool
    """Whether it was."""
    ranker_ranks: npt.NDArray[np.int32]
    """[n] From 1: where the ranker put whom the page shows first, second and so on."""

    @property
    def propensities(self) -> npt.NDArray[np.float64]:
        """[n] Probability with which each stands where it was shown."""
        ranks = np.arange(1, len(self.ranker_ranks) + 1)
        ranked = np.where(self.ranker_ranks == ranks, 1 - self.share, 0.0)
        return ranked + self.share / max(1, len(ranks))


def explore(result: MatchResult, match_id: str, share: float) -> tuple[MatchResult, Exploration]:
    """The first page of a match as it is shown, and how that came about."""
    count = len(result.rows)
    explored = _draw(match_id, 0) < share
    order = _shuffled(match_id, count) if explored else np.arange(count)
    shown = result.pick(order) if explored else result
    return shown, Exploration(share, explored, (order + 1).astype(np.int32))


def _shuffled(match_id: str, count: int) -> Rows:
    return np.argsort([_draw(match_id, rank) for rank in range(1, count + 1)], kind="stable")


def _draw(match_id: str, number: int) -> float:
    """A number from 0 up to 1, the same for the same match and number."""
    digest = hashlib.sha256(f"{match_id}:{number}".encode()).digest()
    return int.from_bytes(digest[:8]) / _DRAWS
