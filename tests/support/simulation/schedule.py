"""One schedule from one seed, and what to type to see it again."""

from dataclasses import dataclass
from unittest import mock

from services.serving.core import swap_heads
from tests.support.simulation.control import Control
from tests.support.simulation.outcomes import Outcomes
from tests.support.simulation.pods import INDEX_ROWS_MIN
from tests.support.simulation.stage import stepping

LINES_SHOWN = 40
OUTCOMES_EVERY = 3
"""Of so many schedules one is of the triplet store, the others are of the control plane."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What came of a seed."""

    seed: int
    digest: str
    """Equal for equal schedules."""
    steps_count: int
    violation: str = ""
    """Empty if every invariant held."""


def run_schedule(seed: int) -> Schedule:
    """Runs the schedule of a seed; errors that nobody expects are violations as well."""
    world = Outcomes(seed) if seed % OUTCOMES_EVERY == 0 else Control(seed)
    violation = ""
    with stepping(), mock.patch.object(swap_heads, "INDEX_ROWS_MIN", INDEX_ROWS_MIN):
        try:
            world.run()
        except Exception as error:
            violation = f"{error!r}\n" + "\n".join(world.stage.trace[-LINES_SHOWN:])
        finally:
            world.stage.close()
    return Schedule(seed, world.stage.digest, len(world.stage.trace), violation)


def told(schedule: Schedule) -> str:
    """A violation, with the command that repeats it."""
    command = f"python -m tests.long simulation --seed {schedule.seed}"
    return f"{schedule.violation}\nrepeat it: {command}"
