"""How often something can be done, and how long it takes at worst."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

Call = Callable[[], Awaitable[bool]]
"""Does something once and says whether it went well."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What came of some callers that called for a while."""

    per_second: float
    p99_ms: float
    failed: int


async def call_for(seconds: float, calls: Sequence[Call]) -> Rate:
    """Calls over and over, each call of `calls` on its own."""
    spent: list[float] = []
    failed = 0
    began = time.perf_counter()

    async def go_on(call: Call) -> None:
        nonlocal failed
        while (start := time.perf_counter()) < began + seconds:
            failed += not await call()
            spent.append(time.perf_counter() - start)

    await asyncio.gather(*(go_on(call) for call in calls))
    took = time.perf_counter() - began
    return Rate(len(spent) / took, float(np.percentile(spent, 99)) * 1e3, failed)


def middle(rates: Sequence[Rate]) -> Rate:
    """The median of rounds; failures are added up."""
    return Rate(
        median(rate.per_second for rate in rates),
        median(rate.p99_ms for rate in rates),
        sum(rate.failed for rate in rates),
    )
