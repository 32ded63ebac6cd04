"""What a match showed, on its way to whoever keeps it: never waited for, and bounded.

A match puts its exposure into the log and goes on. If nobody takes them away fast enough, the log
is full and what comes then is dropped and counted.
"""

import asyncio
import datetime
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.serving.core.explore import Exploration

LOG_ROWS_MAX = 200_000
"""Candidates in the log at most: a few MB."""
BATCH_EXPOSURES_MAX = 500
BATCH_ROWS_MAX = 20_000

_RANDOM_BYTES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One match."""

    match_id: str
    tenant: str
    domain: str
    head: str
    tier: str
    run_id: str
    match_time: datetime.datetime
    seeker: int
    first_rank: int
    candidates: npt.NDArray[np.int32]
    """Users' numbers as they were shown: best first, unless the match was explored."""
    scores: npt.NDArray[np.float64]
    exploration: Exploration | None = None
    """None where the ranker's order is certain to be shown."""
    rollout_id: str = ""
    arm: str = ""
    """challenger or incumbent, in a canary."""


def new_match_id(now: datetime.datetime) -> str:
    """Thirty-two hexadecimal digits that sort by time, and no two alike."""
    milliseconds = int(now.timestamp() * 1_000)
    return f"{milliseconds:012x}{secrets.token_hex(_RANDOM_BYTES)}"


class ExposureLog:
    """A queue between matches and the triplet store. For one event loop."""

    def __init__(self, dropped: Callable[[int], None], rows_max: int = LOG_ROWS_MAX) -> None:
        self._dropped = dropped
        self._rows_max = rows_max
        self._waiting: deque[Exposure] = deque()
        self._rows = 0
        self._arrived = asyncio.Event()

    def put(self, exposure: Exposure) -> None:
        """Takes an exposure, or drops and counts it. Returns at once."""
        rows = 1 + len(exposure.candidates)
        if self._rows + rows > self._rows_max:
            self._dropped(1)
            return
        self._rows += rows
        self._waiting.append(exposure)
        self._arrived.set()

    async def take(self) -> Sequence[Exposure]:
        """Waits for exposures and returns the oldest, as many as fit into a message."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        batch: list[Exposure] = []
        rows = 0
        while self._waiting and len(batch) < BATCH_EXPOSURES_MAX:
            count = 1 + len(self._waiting[0].candidates)
            if batch and rows + count > BATCH_ROWS_MAX:
                break
            batch.append(self._waiting.popleft())
            rows += count
        self._rows -= rows
        return batch

    def lose(self, count: int) -> None:
        """Counts exposures that were taken and could not be delivered."""
        self._dropped(count)
