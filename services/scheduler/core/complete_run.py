"""The end of a run: its head is judged, kept, and put in use if it earned its place.

Or rolled out, where the domain's policy asks for that.
"""

import dataclasses

from services.scheduler.core.advance_rollouts import begin_rollout, end_rollouts
from services.scheduler.core.errors import LeaseLostError
from services.scheduler.core.file_source import FileResult, model_of_checkpoint
from services.scheduler.core.head import Head
from services.scheduler.core.in_use import lock_in_use, name_of
from services.scheduler.core.lease_run import hold_run
from services.scheduler.core.ports import Clock, SchedulerUnit
from services.scheduler.core.rollout import Rollout, first_step, rollout_id_of
from services.scheduler.core.run import LEASED, Run, State, head_of
from services.scheduler.core.verdict import GENERAL, Verdict

MOVED_REASON = "The head in use changed during the run, so the comparison does not hold any more."
PINNED_REASON = (
    "The head passed every rule, but the promotion is pinned to {}, which stays in use until it is "
    "unpinned with POST /v1/heads:unpin."
)
MODEL_REASON = "The model passed every rule. Models made from files are used by their names alone."
OVERTAKEN_REASON = "The head {} was promoted at once, as the domain's policy asks for by now."
ROLLOUT_REASON = "The head passed every rule of the gate; it comes into use step by step."


async def complete_run(
    unit: SchedulerUnit,
    clock: Clock,
    *,
    tenant: str,
    run_id: str,
    token: int,
    manifest_digest: str,
    verdict: Verdict,
    result: FileResult | None = None,
) -> Verdict:
    """Keeps the head, moves the pointer if the verdict says so, and ends the run; all at once.

    A repeat returns the first verdict. A run from files keeps its model whatever the verdict, with
    its `result`, and moves no pointer.

    Raises:
        LeaseLostError: the caller does not hold the run any more.
    """
    run = await hold_run(unit, tenant, run_id, token)
    if run.verdict is not None:
        return run.verdict
    if run.state not in LEASED:
        raise LeaseLostError(run_id)
    domain = run.job.domain
    previous, obstacle = await _obstacle(unit, run)
    if verdict.promoted and obstacle:
        verdict = dataclasses.replace(verdict, promoted=False, reasons=(obstacle,))
    policy = await unit.read_rollout_policy(tenant, domain)
    rolled_out = verdict.promoted and not policy.at_once
    if rolled_out:
        verdict = dataclasses.replace(
            verdict, promoted=False, reasons=(ROLLOUT_REASON,), rollout_id=rollout_id_of(run_id)
        )
    head = Head(
        tenant=tenant,
        domain=domain,
        head=head_of(run.job, run_id),
        run_id=run_id,
        parent=_parent(run, verdict),
        manifest_digest=manifest_digest,
        verdict=verdict,
        create_time=clock.now(),
        promoted=verdict.promoted,
        tier=run.job.tier,
    )
    await unit.add_head(head)
    end = State.STOPPED if run.state is State.STOPPING else State.SUCCEEDED
    ended = await unit.move_run(run, end, verdict=verdict, head=head.head, result=result)
    await unit.emit_run("completed", ended)
    if verdict.promoted:
        await unit.move_pointer(tenant, domain, head.head, previous, f"promoted by {run_id}")
        await unit.emit_head("promoted", tenant, domain, head, previous)
        reason = OVERTAKEN_REASON.format(head.head)
        await end_rollouts(unit, clock, tenant, domain, head=head.head, reason=reason)
    elif rolled_out:
        rollout = Rollout(
            tenant=tenant,
            domain=domain,
            rollout_id=verdict.rollout_id,
            head=head.head,
            incumbent=previous,
            policy=policy,
            step=first_step(policy),
            create_time=head.create_time,
            step_time=head.create_time,
        )
        await begin_rollout(unit, rollout)
    return verdict


async def _obstacle(unit: SchedulerUnit, run: Run) -> tuple[str, str]:
    """The head in use, and what keeps a head that passed from taking its place; "" if nothing."""
    if run.job.files is not None:
        return "", MODEL_REASON
    in_use = await lock_in_use(unit, run.job.tenant, run.job.domain)
    previous = "" if in_use is None else in_use.head
    if run.incumbent != previous:
        return previous, MOVED_REASON
    if await unit.is_pinned(run.job.tenant, run.job.domain):
        return previous, PINNED_REASON.format(name_of(in_use))
    return previous, ""


def _parent(run: Run, verdict: Verdict) -> str:
    """The head that a lineage goes on with: a checkpoint is its model's, an unfit one is none."""
    if run.job.files is None and verdict.incumbent == GENERAL:
        return ""
    checkpoint = model_of_checkpoint(run.incumbent)
    return run.incumbent if checkpoint is None else checkpoint[0]
