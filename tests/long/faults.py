"""Real faults under load, one after the other on one mesh a seed, and the time to recover."""

import random
import tempfile
import traceback
from pathlib import Path

from tests.long.record import Record
from tests.support.mesh import Mesh, running_mesh
from tests.support.mishaps import MISHAPS, Outcome, suffer
from tests.support.witness import Witness

SEEDS = 2
SETTINGS = {"TRINE_TRIPLETS_BUDGET": "1000000", "TRINE_LEASE_SECONDS": "3"}
LEAD_SECONDS_MAX = 1.0


def measure_faults(record: Record) -> bool:
    """Each mishap in an order and at a moment by seed; holds if nothing acknowledged is lost."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in MISHAPS}
    failures: list[str] = []
    for seed in range(record.seed, record.seed + SEEDS):
        with (
            tempfile.TemporaryDirectory() as folder,
            running_mesh(Path(folder), **SETTINGS) as mesh,
        ):
            failures += _suffer_all(mesh, seed, outcomes)
    record.say(
        f"{SEEDS} orders of {len(MISHAPS)} faults under load (outcomes, matches, a run). After "
        "each a look back: nothing acknowledged lost or doubled, the run succeeded, events "
        "on the stream once and numbered without a gap, the promoted head serves, `trine verify`."
    )
    rows = [_row(name, found) for name, found in outcomes.items()]
    record.table(
        ("fault", "times", "calls answered", "answering again, s, at most", "quiet, s, at most"),
        rows,
    )
    for failure in failures:
        record.say(failure)
    return not failures


def _suffer_all(mesh: Mesh, seed: int, outcomes: dict[str, list[Outcome]]) -> list[str]:
    chance = random.Random(seed)
    witness = Witness(mesh)
    for name in chance.sample(sorted(MISHAPS), len(MISHAPS)):
        lead = chance.uniform(0, LEAD_SECONDS_MAX)
        try:
            outcome = suffer(witness, MISHAPS[name], lead)
        except Exception:
            print(traceback.format_exc(), flush=True)
            return [f"Seed {seed}, {name}: {traceback.format_exc().splitlines()[-1]}"]
        outcomes[name].append(outcome)
        print(f"seed {seed}: {name}: {outcome}", flush=True)
    return []


def _row(name: str, found: list[Outcome]) -> tuple[object, ...]:
    return (
        name,
        len(found),
        sum(one.acknowledged_count for one in found),
        f"{max((one.answered_seconds for one in found), default=0):.1f}",
        f"{max((one.quiet_seconds for one in found), default=0):.1f}",
    )
