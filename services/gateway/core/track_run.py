"""Keeping what a run has measured where its owner tracks experiments, once its end is told."""

import datetime
import math

from services.gateway.core.announce_jobs import ASKED_MAX, with_runs
from services.gateway.core.ports import Clock, JobStore, Runs, RunTracker
from services.gateway.core.run import MADE, Measured, Run
from services.gateway.core.tracked_run import TrackedRun, tracked_id
from services.gateway.core.tuning_job import TuningJob

EVENTS_MAX = 1_000
"""The newest events of a run are read; it has one evaluation an epoch."""
TRIED_FOR = datetime.timedelta(days=1)
"""After its end, a run that the tracker does not take."""


async def track_jobs(jobs: JobStore, runs: Runs, tracker: RunTracker, clock: Clock) -> None:
    """Has every run kept that a job wants to be; what goes wrong is tried again the next time."""
    after = ""
    while found := await jobs.list_untracked(after=after, limit=ASKED_MAX):
        for job, run in await with_runs(runs, found):
            is_kept = await _track(tracker, runs, job, run)
            if is_kept or run.end_time is None or clock.now() - run.end_time > TRIED_FOR:
                await jobs.set_tracked(job)
        after = found[-1].job_id


async def _track(tracker: RunTracker, runs: Runs, job: TuningJob, run: Run) -> bool:
    """Writes a run that has ended for each integration of its job; says whether all are kept."""
    events, _ = await runs.list_events(job.tenant, run.run_id, "", EVENTS_MAX)
    measured = [_values(event.measured) for event in reversed(events) if event.measured]
    kept: list[bool] = []
    for index, integration in enumerate(job.given["integrations"]):
        wanted = integration[integration["type"]]
        tracked = TrackedRun(
            tenant=job.tenant,
            run_id=tracked_id(job, index),
            project=wanted["project"],
            name=wanted.get("name"),
            entity=wanted.get("entity"),
            tags=wanted.get("tags") or [],
            config=_config(job, run),
            measured=measured,
            succeeded=run.state in MADE,
        )
        kept.append(await tracker.write(tracked))
    return all(kept)


def _config(job: TuningJob, run: Run) -> dict[str, str | float]:
    """The hyperparameters, as they were used if that is known, and what else decides a run."""
    chosen = run.result.hyperparameters if run.result else job.wish.hyperparameters
    values = {
        "batch_size": chosen.batch_size,
        "beta": chosen.beta,
        "learning_rate_multiplier": chosen.learning_rate_multiplier,
        "method": run.method or job.wish.method or None,
        "model": job.wish.base_model,
        "n_epochs": chosen.n_epochs,
        "seed": job.wish.seed,
    }
    return {name: value for name, value in values.items() if value is not None}


def _values(measured: Measured) -> dict[str, float]:
    values = {
        "step": measured.step,
        "train_loss": measured.training_loss,
        "valid_loss": measured.validation_loss,
        "ndcg_at_10": measured.validation_ndcg_at_10,
    }
    return {
        name: value for name, value in values.items() if value is not None and math.isfinite(value)
    }
