"""Runs the long forms of the reliability tests and records them: python -m tests.long [PART …].

A part that finds a violation ends the command with a status other than 0, after it is recorded.
"""

import argparse
import sys
from collections.abc import Callable, Mapping

from tests.long.artifacts import measure_artifacts
from tests.long.crashes import measure_crashes
from tests.long.edge import measure_edge
from tests.long.faults import measure_faults, measure_links
from tests.long.fuzz import measure_fuzz
from tests.long.load import measure_load
from tests.long.mutations import measure_mutations
from tests.long.power import measure_power
from tests.long.record import Record
from tests.long.simulation import measure_simulation

PARTS: Mapping[str, Callable[[Record], bool]] = {
    "crashes": measure_crashes,
    "artifacts": measure_artifacts,
    "edge": measure_edge,
    "fuzz": measure_fuzz,
    "faults": measure_faults,
    "load": measure_load,
    "links": measure_links,
    "mutations": measure_mutations,
    "power": measure_power,
    "simulation": measure_simulation,
}
"""Each adds its figures to the record and says whether everything held."""


def main() -> int:
    """Runs the parts named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    held = [_run(part, arguments.seed) for part in arguments.parts or PARTS]
    return 0 if all(held) else 1


def _run(part: str, seed: int) -> bool:
    record = Record(part, seed)
    held = PARTS[part](record)
    record.write(held=held)
    print(f"{part}: {'held' if held else 'VIOLATED'}", flush=True)
    return held


if __name__ == "__main__":
    sys.exit(main())
