"""Ending a run early, with what it has learned."""

from services.scheduler.core.errors import RunEndedError, RunNotFoundError, RunStateError
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import ACTIVE, MOVES, Run, State


async def stop_run(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    """Asks a run to end; one that no trainer holds goes to a trainer for that.

    Raises:
        RunEndedError: it has ended.
        RunNotFoundError: there is no such run.
        RunStateError: it has learned nothing yet, is pausing, or has learned everything.
    """
    run = await unit.lock_run(tenant, run_id)
    if run is None:
        raise RunNotFoundError(run_id)
    if run.state is State.STOPPED:
        return run
    if run.state not in ACTIVE:
        raise RunEndedError(run_id, run.state)
    if run.start_time is None:
        raise RunStateError(run_id, run.state, "it has learned nothing that could be kept")
    if run.state is State.STOPPING or (run.state is State.QUEUED and run.stop_requested):
        return run
    if run.state is State.QUEUED:
        return await unit.request_stop(run)
    if run.state is State.PAUSED:
        resumed = await unit.move_run(await unit.request_stop(run), State.QUEUED)
        await unit.emit_run("resumed", resumed)
        return resumed
    if State.STOPPING in MOVES[run.state]:
        return await unit.move_run(await unit.request_stop(run), State.STOPPING)
    rule = "stop it once it is paused" if run.state is State.PAUSING else "its training has ended"
    raise RunStateError(run_id, run.state, rule)
