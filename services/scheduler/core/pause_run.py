"""Pausing a run, and letting it go on."""

from services.scheduler.core.errors import RunStateError
from services.scheduler.core.lock_run import lock_run
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import MOVES, Run, State


async def pause_run(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    """Pauses a queued run at once; the trainer of one under way hears of it and gives it back.

    Raises:
        RunEndedError: it has ended.
        RunNotFoundError: there is no such run.
        RunStateError: it has nothing left to train, or is stopping.
    """
    run = await lock_run(unit, tenant, run_id)
    if run.state in {State.PAUSING, State.PAUSED}:
        return run
    if State.PAUSED in MOVES[run.state]:
        paused = await unit.move_run(run, State.PAUSED)
        await unit.emit_run("paused", paused)
        return paused
    if State.PAUSING in MOVES[run.state]:
        return await unit.move_run(run, State.PAUSING)
    raise RunStateError(run_id, run.state, "it cannot be paused any more")


async def resume_run(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    """Puts a paused run back into the queue; one that goes on already is left alone.

    Raises:
        RunEndedError: it has ended.
        RunNotFoundError: there is no such run.
        RunStateError: its trainer has not given it back yet.
    """
    run = await lock_run(unit, tenant, run_id)
    if run.state is State.PAUSING:
        raise RunStateError(run_id, run.state, "it can be resumed once it is paused")
    if run.state is not State.PAUSED:
        return run
    resumed = await unit.move_run(run, State.QUEUED)
    await unit.emit_run("resumed", resumed)
    return resumed
