"""Real faults under load, one after the other on one mesh a seed, and the time to recover."""

import random
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.long.record import Record
from tests.support.full_disks import FULL_SECONDS, fill_disk, small_disk, why_not
from tests.support.link_mishaps import link_mishaps
from tests.support.linked import linked_mesh
from tests.support.mesh import Mesh, running_mesh
from tests.support.mishaps import MISHAPS, Outcome, suffer
from tests.support.witness import Witness

SEEDS = 2
LINK_SEEDS = 1
SETTINGS = {"TRINE_TRIPLETS_BUDGET": "1000000", "TRINE_LEASE_SECONDS": "3"}
LEAD_SECONDS_MAX = 1.0
Mishaps = Mapping[str, Callable[[Mesh], None]]


def measure_faults(record: Record) -> bool:
    """What happens to processes, in an order by seed; holds if nothing acknowledged is lost."""
    trial = _Trial(record)
    for seed in range(record.seed, record.seed + SEEDS):
        with (
            tempfile.TemporaryDirectory() as folder,
            running_mesh(Path(folder), **SETTINGS) as mesh,
        ):
            trial.suffer_all(mesh, MISHAPS, seed)
        _suffer_a_full_disk(trial, record, seed)
    return trial.tell()


def _suffer_a_full_disk(trial: "_Trial", record: Record, seed: int) -> None:
    """On a disk of its own, which is filled."""
    if reason := why_not():
        record.say(f"No disk was filled: {reason}.")
        return
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder)):
        mishaps = {f"disk full for {FULL_SECONDS:.0f} s": fill_disk(Path(folder))}
        with running_mesh(Path(folder), **SETTINGS) as mesh:
            trial.suffer_all(mesh, mishaps, seed)


def measure_links(record: Record) -> bool:
    """What happens to links between parts, in an order by seed; holds as faults do."""
    trial = _Trial(record)
    for seed in range(record.seed, record.seed + LINK_SEEDS):
        with (
            tempfile.TemporaryDirectory() as folder,
            linked_mesh(Path(folder), **SETTINGS) as (mesh, links),
        ):
            trial.suffer_all(mesh, link_mishaps(links), seed)
    return trial.tell()


class _Trial:
    """All outcomes by mishap."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._outcomes: dict[str, list[Outcome]] = {}
        self._failures: list[str] = []

    def suffer_all(self, mesh: Mesh, mishaps: Mishaps, seed: int) -> None:
        """One mishap after the other; the first that the mesh does not get over is the last."""
        chance = random.Random(seed)
        witness = Witness(mesh)
        for name in mishaps:
            self._outcomes.setdefault(name, [])
        for name in chance.sample(sorted(mishaps), len(mishaps)):
            lead = chance.uniform(0, LEAD_SECONDS_MAX)
            try:
                outcome = suffer(witness, mishaps[name], lead)
            except Exception:
                print(traceback.format_exc(), flush=True)
                reason = traceback.format_exc().splitlines()[-1]
                self._failures.append(f"Seed {seed}, {name}: {reason}")
                return
            self._outcomes[name].append(outcome)
            print(f"seed {seed}: {name}: {outcome}", flush=True)

    def tell(self) -> bool:
        """Adds all to the record and says whether everything held."""
        self._record.say(
            "Each under load (outcomes, matches, a run). After each a look back: nothing "
            "acknowledged lost or doubled, the run succeeded, events on the stream once and "
            "numbered without a gap, the promoted head serves, `trine verify`."
        )
        rows = [_row(name, found) for name, found in self._outcomes.items()]
        self._record.table(
            ("fault", "times", "calls answered", "answering again, s", "quiet, s"), rows
        )
        for failure in self._failures:
            self._record.say(failure)
        return not self._failures


def _row(name: str, found: list[Outcome]) -> tuple[object, ...]:
    return (
        name,
        len(found),
        sum(one.acknowledged_count for one in found),
        f"{max((one.answered_seconds for one in found), default=0):.1f}",
        f"{max((one.quiet_seconds for one in found), default=0):.1f}",
    )
