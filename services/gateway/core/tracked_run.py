"""A run as a tracker of experiments keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.gateway.core.tuning_job import TuningJob


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """One run as a tracker keeps it."""

    tenant: str
    run_id: str
    project: str
    name: str | None
    entity: str | None
    tags: Sequence[str]
    config: Mapping[str, str | float]
    measured: Sequence[Mapping[str, float]]
    """By step."""
    succeeded: bool


def tracked_id(job: TuningJob, index: int) -> str:
    """What a job's integration at some place is called by its tracker."""
    return f"{job.job_id}-{index}"
