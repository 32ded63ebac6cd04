"""The step that steering a run begins with."""

from services.scheduler.core.errors import RunEndedError, RunNotFoundError
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import ACTIVE, Run, State


async def lock_run(
    unit: SchedulerUnit, tenant: str, run_id: str, wanted: State | None = None
) -> Run:
    """Returns a run that may still be steered, or that has ended as it is wanted to.

    Nobody else changes it until the unit ends.

    Raises:
        RunEndedError: it has ended otherwise.
        RunNotFoundError: there is no such run.
    """
    run = await unit.lock_run(tenant, run_id)
    if run is None:
        raise RunNotFoundError(run_id)
    if run.state not in ACTIVE and run.state is not wanted:
        raise RunEndedError(run_id, run.state)
    return run
