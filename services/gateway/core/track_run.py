"""Keeping what a run has measured where its owner tracks experiments, once it has ended."""

import math

from services.gateway.core.ports import Runs, RunTracker
from services.gateway.core.run import Measured, Run, RunState
from services.gateway.core.tracked_run import TrackedRun, tracked_id
from services.gateway.core.tuning_job import TuningJob

EVENTS_MAX = 1_000
"""The newest events of a run are read; it has one evaluation an epoch."""
_MADE = frozenset({RunState.SUCCEEDED, RunState.STOPPED})


async def track_run(tracker: RunTracker, runs: Runs, job: TuningJob, run: Run) -> None:
    """Writes a run that has ended for each integration of its job."""
    integrations = job.given.get("integrations")
    if not integrations:
        return
    events, _ = await runs.list_events(job.tenant, run.run_id, "", EVENTS_MAX)
    measured = [_values(event.measured) for event in reversed(events) if event.measured]
    for index, integration in enumerate(integrations):
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
            succeeded=run.state in _MADE,
        )
        await tracker.write(tracked)


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
