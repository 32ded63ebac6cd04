"""The mesh in simulation: every schedule holds, and a seed is a schedule in whichever process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.simulation.schedule import run_schedule, told

ROOT = Path(__file__).parents[3]
SECONDS = 2.0
"""For each block of seeds, and for new ones: as many schedules as that allows, but not fewer."""
SCHEDULES_MIN = 50
FIRST_SEEDS = (1, 10_000_000)
REPLAYED = range(5)


@pytest.mark.parametrize(
    "first", [*FIRST_SEEDS, time.time_ns() // 1_000_000], ids=["1", "10_000_000", "new"]
)
def test_no_schedule_violates_an_invariant(first: int) -> None:
    began, seed = time.monotonic(), first
    while time.monotonic() - began < SECONDS or seed < first + SCHEDULES_MIN:
        schedule = run_schedule(seed)
        assert not schedule.violation, told(schedule)
        seed += 1


def test_a_seed_is_the_same_schedule_in_every_process() -> None:
    code = (
        "from tests.support.simulation.schedule import run_schedule;"
        f"print([run_schedule(seed).digest for seed in range({len(REPLAYED)})])"
    )
    here = str([run_schedule(seed).digest for seed in REPLAYED])
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "1"},  # this process has another, drawn
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here


def test_seeds_differ() -> None:
    assert len({run_schedule(seed).digest for seed in REPLAYED}) == len(REPLAYED)
