"""The end of a run: its head is judged, kept, and put in use if it earned its place."""

import dataclasses

from services.scheduler.core.errors import LeaseLostError
from services.scheduler.core.head import Head
from services.scheduler.core.lease_run import hold_run
from services.scheduler.core.ports import Clock, SchedulerUnit
from services.scheduler.core.run import LEASED, State, head_of
from services.scheduler.core.verdict import GENERAL, Verdict

MOVED_REASON = "The head in use changed during the run, so the comparison does not hold any more."
PINNED_REASON = (
    "The head passed every rule, but the promotion is pinned to {}, which stays in use until it is "
    "unpinned with POST /v1/heads:unpin."
)


async def complete_run(
    unit: SchedulerUnit,
    clock: Clock,
    *,
    tenant: str,
    run_id: str,
    token: int,
    manifest_digest: str,
    verdict: Verdict,
) -> Verdict:
    """Keeps the head, moves the pointer if the verdict says so, and ends the run; all at once.

    A repeat returns the first verdict.

    Raises:
        LeaseLostError: the caller does not hold the run any more.
    """
    run = await hold_run(unit, tenant, run_id, token)
    if run.verdict is not None:
        return run.verdict
    if run.state not in LEASED:
        raise LeaseLostError(run_id)
    domain = run.job.domain
    in_use = await unit.lock_pointer(tenant, domain)
    previous = "" if in_use is None else in_use.head
    obstacle = ""
    if verdict.incumbent != (previous or GENERAL):
        obstacle = MOVED_REASON
    elif await unit.is_pinned(tenant, domain):
        obstacle = PINNED_REASON.format(previous or GENERAL)
    if verdict.promoted and obstacle:
        verdict = dataclasses.replace(verdict, promoted=False, reasons=(obstacle,))
    head = Head(
        tenant=tenant,
        domain=domain,
        head=head_of(tenant, domain, run_id),
        run_id=run_id,
        parent=run.incumbent,
        manifest_digest=manifest_digest,
        verdict=verdict,
        create_time=clock.now(),
        promoted=verdict.promoted,
    )
    await unit.add_head(head)
    end = State.STOPPED if run.state is State.STOPPING else State.SUCCEEDED
    ended = await unit.move_run(run, end, verdict=verdict, head=head.head)
    await unit.emit_run("completed", ended)
    if verdict.promoted:
        await unit.move_pointer(tenant, domain, head.head, previous, f"promoted by {run_id}")
        await unit.emit_head("promoted", tenant, domain, head, previous)
    return verdict
