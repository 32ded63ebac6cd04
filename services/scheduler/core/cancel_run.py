"""Calling a run off."""

from services.scheduler.core.lock_run import lock_run
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import Run, State


async def cancel_run(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    """Ends a run at once; a trainer that holds it hears of it with its next heartbeat.

    Raises:
        RunEndedError: it has succeeded or failed.
        RunNotFoundError: there is no such run.
    """
    run = await lock_run(unit, tenant, run_id, State.CANCELLED)
    if run.state is State.CANCELLED:
        return run
    cancelled = await unit.move_run(run, State.CANCELLED)
    await unit.emit_run("cancelled", cancelled)
    return cancelled
