"""Asking for a run that learns from files."""

from services.scheduler.core.errors import FileRunsExhaustedError, ModelExistsError
from services.scheduler.core.file_source import FileJob, FileSource
from services.scheduler.core.find_model import NamedModel
from services.scheduler.core.ports import SchedulerUnit
from services.scheduler.core.run import Job, Run, Trigger

FILE_RUNS_ACTIVE_MAX = 8
"""Of a tenant, queued and paused ones too."""


async def create_file_run(
    unit: SchedulerUnit, tenant: str, source: FileSource, base: NamedModel, seed: int
) -> Run:
    """Queues a run, or returns the one that the same wish has made already.

    Raises:
        FileRunsExhaustedError: the tenant has too many that have not ended.
        ModelExistsError: another wish has the model's name.
    """
    active_count = await unit.lock_file_runs(tenant)
    known = await unit.find_file_run(tenant, source.model)
    if known is not None:
        assert known.job.files is not None
        if (known.job.files.source, known.job.seed) != (source, seed):
            raise ModelExistsError(source.model, known.run_id)
        return known
    if active_count >= FILE_RUNS_ACTIVE_MAX:
        raise FileRunsExhaustedError(FILE_RUNS_ACTIVE_MAX)
    job = Job(
        tenant=tenant,
        domain="",
        trigger=Trigger.MANUAL,
        forced=True,
        revision=0,
        triplets_count=0,
        seed=seed,
        files=FileJob(
            source=source, base_head=base.head, base_manifest_digest=base.manifest_digest
        ),
    )
    run = await unit.add_run(job)
    await unit.emit_run("queued", run)
    return run
