"""Pausing a run, and letting it go on."""

from services.scheduler.core.errors import RunEndedError, RunNotFoundError, RunStateError
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import ACTIVE, MOVES, Run, State


async def pause_run(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    """Pauses a queued run at once; the trainer of one under way hears of it and gives it back.

    Raises:
        RunEndedError: it has ended.
        RunNotFoundError: there is no such run.
        RunStateError: it has nothing left to train, or is stopping.
    """
    run = await _lock(unit, tenant, run_id)
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
    run = await _lock(unit, tenant, run_id)
    if run.state is State.PAUSING:
        raise RunStateError(run_id, run.state, "it can be resumed once it is paused")
    if run.state is not State.PAUSED:
        return run
    resumed = await unit.move_run(run, State.QUEUED)
    await unit.emit_run("resumed", resumed)
    return resumed


async def _lock(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    run = await unit.lock_run(tenant, run_id)
    if run is None:
        raise RunNotFoundError(run_id)
    if run.state not in ACTIVE:
        raise RunEndedError(run_id, run.state)
    return run
