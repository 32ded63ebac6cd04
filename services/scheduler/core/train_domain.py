"""Asking for a run: by a caller, or because the triplet budget is reached."""

import datetime
from dataclasses import dataclass

from services.scheduler.core.errors import (
    BudgetNotReachedError,
    NoTripletsError,
    RunActiveError,
    SchedulerError,
)
from services.scheduler.core.ports import (
    Clock,
    DomainCounts,
    SchedulerStore,
    SchedulerUnit,
    TripletCounts,
)
from services.scheduler.core.run import Job, Run, Trigger

SEED = 0
"""One seed for all: a run differs from another by its snapshot, not by luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPolicy:
    """When domains train by themselves."""

    triplets_budget: int
    """Pending triplets that start a run."""
    cool_down: datetime.timedelta
    """Time between an automatic run and the run before it."""


async def train_domain(
    unit: SchedulerUnit, counts: DomainCounts, policy: TrainingPolicy, *, force: bool
) -> Run:
    """Queues a run on demand."""
    refused = refusal(counts, policy, force=force)
    if refused is not None:
        raise refused
    return await _queue(unit, counts, Trigger.MANUAL, forced=force)


def refusal(counts: DomainCounts, policy: TrainingPolicy, *, force: bool) -> SchedulerError | None:
    """Why a domain with these counts is not trained on demand; None if it is."""
    if not counts.triplets_count:
        return NoTripletsError(counts.domain)
    pending = counts.triplets_pending_count
    if not force and pending < policy.triplets_budget:
        return BudgetNotReachedError(counts.domain, pending, policy.triplets_budget)
    return None


async def consider_training(
    store: SchedulerStore, triplets: TripletCounts, clock: Clock, policy: TrainingPolicy
) -> list[Run]:
    """Queues a run for each domain that has reached its budget and has cooled down."""
    queued: list[Run] = []
    for counts in await triplets.list():
        if counts.triplets_pending_count < policy.triplets_budget:
            continue
        key = (counts.tenant, counts.domain)
        last = await store.last_run_time(*key)
        if last is not None and clock.now() - last < policy.cool_down:
            continue
        if await store.active_run(*key) is not None:
            continue
        try:
            async with store.begin() as unit:
                queued.append(await _queue(unit, counts, Trigger.AUTOMATIC, forced=False))
        except RunActiveError:
            continue  # someone was faster
    return queued


async def _queue(
    unit: SchedulerUnit, counts: DomainCounts, trigger: Trigger, *, forced: bool
) -> Run:
    job = Job(
        tenant=counts.tenant,
        domain=counts.domain,
        trigger=trigger,
        forced=forced,
        revision=counts.revision,
        triplets_count=counts.triplets_count,
        seed=SEED,
    )
    run = await unit.add_run(job)
    await unit.emit_run("queued", run)
    return run
