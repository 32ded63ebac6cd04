"""Telling the world how fine-tuning jobs ended.

What ended is asked of the scheduler, of all jobs that have not been told of yet: an event would
only be a hint to do so. A repeat after a crash makes the same event, which is on its way already.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from services.gateway.core.deliver_events import announce
from services.gateway.core.ports import JobStore, Runs, WebhookStore
from services.gateway.core.run import Run, RunState
from services.gateway.core.tuning_job import TuningJob

ASKED_MAX = 100
"""Jobs that are read at one go."""

ENDS: Mapping[RunState, str] = {
    RunState.SUCCEEDED: "fine_tuning.job.succeeded",
    RunState.STOPPED: "fine_tuning.job.succeeded",
    RunState.FAILED: "fine_tuning.job.failed",
    RunState.CANCELLED: "fine_tuning.job.cancelled",
}
"""The event of each state that a run ends in."""


async def announce_jobs(jobs: JobStore, runs: Runs, webhooks: WebhookStore) -> None:
    """Announces every job that has ended since the last time."""
    after = ""
    while found := await jobs.list_unannounced(after=after, limit=ASKED_MAX):
        for job, run in await with_runs(runs, found):
            event_type = ENDS.get(run.state)
            if event_type is None or run.end_time is None:
                continue
            await announce(
                webhooks,
                tenant=job.tenant,
                event_type=event_type,
                subject_id=job.job_id,
                now=run.end_time,
            )
            await jobs.set_announced(job)
        after = found[-1].job_id


async def with_runs(runs: Runs, jobs: Sequence[TuningJob]) -> list[tuple[TuningJob, Run]]:
    """Jobs and their runs: one question for each tenant."""
    started: defaultdict[str, list[str]] = defaultdict(list)
    for job in jobs:
        started[job.tenant].append(job.run_id)
    found = {tenant: await runs.get_all(tenant, run_ids) for tenant, run_ids in started.items()}
    return [(job, found[job.tenant][job.run_id]) for job in jobs]
