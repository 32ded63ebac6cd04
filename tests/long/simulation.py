"""Schedules of the simulated mesh, one a seed: the first violation ends the run."""

import itertools
import time

from tests.long.record import Record
from tests.support.simulation.schedule import run_schedule, told

SCHEDULES = 100_000
TOLD_EVERY = 5_000


def measure_simulation(record: Record) -> bool:
    """Runs schedules from the record's seed on; holds if no invariant is violated in any."""
    began, steps = time.process_time(), 0
    for count in itertools.count(1):
        schedule = run_schedule(record.seed + count - 1)
        steps += schedule.steps_count
        if schedule.violation:
            print(told(schedule), flush=True)
            first = schedule.violation.splitlines()[0]
            record.say(f"Seed {schedule.seed} violated an invariant: {first}")
        if count % TOLD_EVERY == 0:
            print(f"{count:,} schedules held", flush=True)
        if schedule.violation or count == SCHEDULES:
            break
    seconds = time.process_time() - began
    record.table(
        ("schedules", "seeds", "steps", "a second of one core", "violations"),
        [
            (
                f"{count:,}",
                f"{record.seed:,} to {record.seed + count - 1:,}",
                f"{steps:,}",
                f"{count / seconds:,.0f}",
                int(bool(schedule.violation)),
            )
        ],
    )
    return not schedule.violation
