"""The mesh in simulation: every schedule holds, and a seed is a schedule in whichever process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.simulation.schedule import run_schedule, told

ROOT = Path(__file__).parents[3]
NEW = time.time_ns() // 1_000_000
"""A seed that no run has had before; a violation tells it."""
BLOCKS = {1: 500, 10_000_000: 150, NEW: 150}
"""Schedules by first seed."""
REPLAYED = range(5)


@pytest.mark.parametrize("first", BLOCKS, ids=["1", "10_000_000", "new"])
def test_no_schedule_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + BLOCKS[first]):
        schedule = run_schedule(seed)
        assert not schedule.violation, told(schedule)


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
