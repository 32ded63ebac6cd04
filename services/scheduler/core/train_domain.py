"""Asking for a run: by a caller, or because the domain's policy says that it is due."""

from services.scheduler.core.errors import (
    BudgetNotReachedError,
    NoTripletsError,
    RunActiveError,
    SchedulerError,
)
from services.scheduler.core.ports import (
    POSITIVES_MIN,
    Clock,
    DomainCounts,
    SchedulerStore,
    SchedulerUnit,
    TripletCounts,
)
from services.scheduler.core.run import Job, Run, Trigger
from services.scheduler.core.training_policy import PolicyChoice, TrainingPolicy

SEED = 0
"""One seed for all: a run differs from another by its snapshot, not by luck."""


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
    if not counts.examples_count:
        return NoTripletsError(counts.domain, POSITIVES_MIN)
    pending = counts.triplets_pending_count
    if not force and pending < policy.triplets_budget:
        return BudgetNotReachedError(counts.domain, pending, policy.triplets_budget)
    return None


async def consider_training(
    store: SchedulerStore, triplets: TripletCounts, clock: Clock, defaults: TrainingPolicy
) -> list[Run]:
    """Queues a run for each domain whose policy says that one is due."""
    queued: list[Run] = []
    choices = await store.list_policies()
    for counts in await triplets.list():
        key = (counts.tenant, counts.domain)
        policy = choices.get(key, PolicyChoice()).over(defaults)
        pending = counts.triplets_pending_count
        if policy.trigger(pending, None) is None:
            continue  # no time that has passed makes it due
        last = await store.last_run_time(*key)
        trigger = policy.trigger(pending, None if last is None else clock.now() - last)
        if trigger is None or await store.active_run(*key) is not None:
            continue
        try:
            async with store.begin(counts.tenant) as unit:
                queued.append(await _queue(unit, counts, trigger, forced=False))
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
        triplets_count=counts.examples_count,
        seed=SEED,
    )
    run = await unit.add_run(job)
    await unit.emit_run("queued", run)
    return run
