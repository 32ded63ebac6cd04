"""Calling a run off."""

from services.scheduler.core.errors import RunEndedError, RunNotFoundError
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import ACTIVE, Run, State


async def cancel_run(unit: SchedulerUnit, tenant: str, run_id: str) -> Run:
    """Ends a run at once; a trainer that holds it hears of it with its next heartbeat.

    Raises:
        RunEndedError: it has succeeded or failed.
        RunNotFoundError: there is no such run.
    """
    run = await unit.lock_run(tenant, run_id)
    if run is None:
        raise RunNotFoundError(run_id)
    if run.state is State.CANCELLED:
        return run
    if run.state not in ACTIVE:
        raise RunEndedError(run_id, run.state)
    cancelled = await unit.move_run(run, State.CANCELLED)
    await unit.emit_run("cancelled", cancelled)
    return cancelled
