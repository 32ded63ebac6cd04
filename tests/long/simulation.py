"""Schedules of the simulated mesh, one a seed: the first violation ends the run."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.long.record import Record
from tests.support.simulation.schedule import Schedule, run_schedule, told

SCHEDULES = 100_000
BLOCK_SCHEDULES = 250
TOLD_EVERY = 5_000


def measure_simulation(record: Record) -> bool:
    """Runs schedules from the record's seed on; holds if no invariant is violated in any."""
    began, count, steps, violation = time.monotonic(), 0, 0, ""
    for schedule in _schedules(record.seed):
        count, steps = count + 1, steps + schedule.steps_count
        if schedule.violation:
            print(told(schedule), flush=True)
            violation = schedule.violation.splitlines()[0]
            record.say(f"Seed {schedule.seed} violated an invariant: {violation}")
            break
        if count % TOLD_EVERY == 0:
            print(f"{count:,} schedules held", flush=True)
    seconds = time.monotonic() - began
    row = (
        f"{count:,}",
        f"{record.seed:,} to {record.seed + count - 1:,}",
        f"{steps:,}",
        f"{count / seconds:,.0f}",
        int(bool(violation)),
    )
    record.table(("schedules", "seeds", "steps", "schedules a second", "violations"), [row])
    return not violation


def _schedules(first: int) -> Iterator[Schedule]:
    """All schedules in the order of their seeds, until nobody wants more; every core takes part."""
    starts = range(first, first + SCHEDULES, BLOCK_SCHEDULES)
    with ProcessPoolExecutor(os.cpu_count()) as executor:
        try:
            for block in executor.map(_run_block, starts):
                yield from block
        finally:
            executor.shutdown(cancel_futures=True)


def _run_block(first: int) -> list[Schedule]:
    return [run_schedule(seed) for seed in range(first, first + BLOCK_SCHEDULES)]
