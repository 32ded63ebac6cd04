"""What a run would meet if it was asked for now; nothing is started."""

from dataclasses import dataclass

from services.scheduler.core.errors import RunActiveError, SchedulerError
from services.scheduler.core.in_use import name_of, read_in_use
from services.scheduler.core.ports import (
    DomainCounts,
    OutcomeCounts,
    SchedulerStore,
    TripletCounts,
)
from services.scheduler.core.train_domain import refusal
from services.scheduler.core.training_policy import TrainingPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """A run that has not been asked for."""

    obstacles: tuple[SchedulerError, ...]
    """What asking for it would be refused with."""
    incumbent: str
    incumbent_pinned: bool
    outcomes: OutcomeCounts


async def plan_training(
    store: SchedulerStore,
    triplets: TripletCounts,
    counts: DomainCounts,
    policy: TrainingPolicy,
    *,
    force: bool,
) -> TrainingPlan:
    """Says what stands in the way of a run and which head it would have to beat."""
    key = (counts.tenant, counts.domain)
    obstacles: list[SchedulerError] = []
    refused = refusal(counts, policy, force=force)
    if refused is not None:
        obstacles.append(refused)
    active = await store.active_run(*key)
    if active is not None:
        obstacles.append(RunActiveError(counts.domain, active.run_id, active.state))
    return TrainingPlan(
        obstacles=tuple(obstacles),
        incumbent=name_of(await read_in_use(store, *key)),
        incumbent_pinned=await store.pinned_head(*key) is not None,
        outcomes=await triplets.count_outcomes(*key),
    )
