"""Ending a run early, with what it has learned."""

from services.scheduler.core.errors import RunStateError
from services.scheduler.core.lock_run import lock_run
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import MOVES, Run, State


async def stop_run(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    """Asks a run to end; one that no trainer holds goes to a trainer for that.

    Raises:
        RunEndedError: it has ended.
        RunNotFoundError: there is no such run.
        RunStateError: it has learned nothing yet, is pausing, or has learned everything.
    """
    run = await lock_run(unit, tenant, run_id, State.STOPPED)
    if run.state is State.STOPPED:
        return run
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
