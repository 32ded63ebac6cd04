"""A process dies at the passing that a test asks for, once, and nowhere else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.crashes import crash_points

PROGRAM = """
from services.chassis.crashpoint import crashpoint
for name in ("file.stored", "row.written", "file.stored", "row.written"):
    crashpoint(name)
    print(name, flush=True)
"""
WHOLE = ["file.stored", "row.written"] * 2


def run(file: Path | None) -> tuple[int, list[str]]:
    """Runs the program; how it ended, and the points that it came past."""
    environment = {k: v for k, v in os.environ.items() if k != "TRINE_CRASH"}
    if file is not None:
        environment["TRINE_CRASH"] = str(file)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split()


def test_nobody_dies_unasked(tmp_path: Path) -> None:
    assert run(None) == (0, WHOLE)
    assert run(tmp_path / "absent") == (0, WHOLE)


def test_a_process_dies_at_the_passing_asked_for_and_its_successor_lives(tmp_path: Path) -> None:
    file = tmp_path / "deaths"
    file.write_text("row.written:2\nelsewhere:1\n")
    assert run(file) == (-signal.SIGKILL, WHOLE[:3])
    assert file.read_text() == "elsewhere:1\n"
    assert run(file) == (0, WHOLE)


def test_each_point_asked_for_is_died_at_once(tmp_path: Path) -> None:
    file = tmp_path / "deaths"
    file.write_text("row.written:1\nfile.stored:1\n")
    assert run(file) == (-signal.SIGKILL, [])
    assert run(file) == (-signal.SIGKILL, WHOLE[:1])
    assert run(file) == (0, WHOLE)


def test_every_service_has_points_of_its_own() -> None:
    points = crash_points()
    assert set(points) == {"gateway", "scheduler", "triplets", "serving", "trainer"}
    assert sum(map(len, points.values())) >= 40
