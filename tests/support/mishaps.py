"""What happens to the processes of a mesh; nobody helps them afterwards."""

import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from services.chassis.stream import LOOK_SECONDS, REBUILT_SECONDS
from services.mesh.streams import rebuild_stream
from tests.support.mesh import Mesh, run_async, until
from tests.support.stalls import standing_still
from tests.support.witness import Witness

MEND_SECONDS_MAX = REBUILT_SECONDS + 2 * LOOK_SECONDS
"""After which the stream has been made anew, also if it was shortly before."""
STALL_SECONDS = 6.0
"""Twice the lease that the mesh is given here."""
TERMINATIONS = 5
_TERMINATE = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where application_name like 'trine-%'
"""


@dataclass(frozen=True)
class Outcome:
    """How one mishap went."""

    acknowledged_count: int
    """Answers while it lasted and until all was quiet."""
    answered_seconds: float
    """From its end until outcomes, matches and runs are answered."""
    quiet_seconds: float
    """From its end until the run has ended and every event is told."""


def suffer(witness: Witness, mishap: Callable[[Mesh], None], lead_seconds: float = 0.0) -> Outcome:
    """Lets a mishap happen to a mesh at work, waits for quiet and looks back.

    Raises:
        AssertionError: something acknowledged is lost or doubled, or the mesh does not recover.
    """
    before = witness.answers_count
    with witness.at_work():
        witness.start_run()
        time.sleep(lead_seconds)
        mishap(witness.mesh)
        ended = time.monotonic()
        witness.until_answered()
        answered = time.monotonic() - ended
        witness.until_quiet()
    if mishap is wipe_nats:
        until(lambda: is_mended(witness) or None, MEND_SECONDS_MAX, 0.5)
        assert run_async(rebuild_stream(witness.mesh.home)) > 0  # once more is as good
    witness.until_quiet()
    quiet = time.monotonic() - ended
    witness.look_back()
    return Outcome(witness.answers_count - before, answered, quiet)


def is_mended(witness: Witness) -> bool:
    """Whether the stream of events is whole."""
    return not any(rule.startswith("I14") for rule in witness.violated())


def stall(name: str) -> Callable[[Mesh], None]:
    """A process that stands still for a while, past every lease, and goes on."""

    def happen(mesh: Mesh) -> None:
        with standing_still(mesh.signal(name, signal.SIGSTOP)):
            time.sleep(STALL_SECONDS)

    return happen


def kill_nats(mesh: Mesh) -> None:
    """NATS ends at once and is started again."""
    mesh.kill("nats")


def wipe_nats(mesh: Mesh) -> None:
    """NATS ends and its store is gone."""
    mesh.signal("nats", signal.SIGSTOP)
    shutil.rmtree(mesh.home.nats)
    mesh.home.nats.mkdir()
    mesh.kill("nats")


def restart_postgres(mesh: Mesh) -> None:
    """PostgreSQL ends in immediate mode, without a checkpoint, and is started again."""
    before = mesh.signal("postgres", signal.SIGQUIT)
    while (mesh.home.read_mesh() or {})["pids"]["postgres"] in (0, before):
        time.sleep(0.02)


def end_connections(mesh: Mesh) -> None:
    """PostgreSQL ends all connections of services, several times."""

    async def end() -> None:
        connection = await asyncpg.connect(mesh.told["postgres"])
        try:
            assert await connection.fetchval(_TERMINATE) > 0
        finally:
            await connection.close()

    for _ in range(TERMINATIONS):
        run_async(end())
        time.sleep(0.3)


MISHAPS: Mapping[str, Callable[[Mesh], None]] = {
    "NATS killed": kill_nats,
    "NATS killed, its store wiped, the stream rebuilt": wipe_nats,
    "PostgreSQL restarted in immediate mode": restart_postgres,
    "all connections to PostgreSQL ended, 5 times": end_connections,
    **{
        f"{name} stopped for {STALL_SECONDS:.0f} s": stall(name)
        for name in (
            *("gateway", "scheduler", "triplets", "serving", "trainer"),
            *("envoy", "nats", "postgres"),
        )
    },
}
