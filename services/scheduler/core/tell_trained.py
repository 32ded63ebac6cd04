"""Telling the triplet store what has been trained on: until it knows, and in order."""

from services.scheduler.core.ports import SchedulerStore, TripletCounts

_RUNS_MAX = 100


async def tell_trained(store: SchedulerStore, triplets: TripletCounts) -> None:
    """Tells of each successful run that the store has not heard of; repeats are harmless."""
    for run in await store.untold_runs(_RUNS_MAX):
        job = run.job
        await triplets.record_training(job.tenant, job.domain, job.triplets_count)
        await store.mark_told(run)
