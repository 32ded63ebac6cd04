"""Asking for a job: one row and one run, however often it is asked for.

The row comes first. It names the model, by which the scheduler knows a wish that comes again: so a
gateway that dies in between, or a scheduler that is away, leaves a row whose run is made later.
"""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from services.gateway.core.errors import (
    FieldInvalidError,
    FileNotThereError,
    JobNameTakenError,
    RequestKeyReusedError,
    SchedulerUnavailableError,
)
from services.gateway.core.file import FILE_BYTES_MAX
from services.gateway.core.ids import new_id
from services.gateway.core.ports import Clock, FileStore, JobStore, Runs
from services.gateway.core.run import Hyperparameters, InputFile, Method, Run, Wish
from services.gateway.core.tuning_job import (
    JOB_ID,
    TuningJob,
    check_metadata,
    check_request_key,
    check_suffix,
    choose_seed,
    model_name,
)

FINE_TUNE = "fine-tune"
"""What a file must be for that a run learns from."""
ADOPTED_MAX = 100
"""Rows without a run that are looked after at one go."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a caller asks for."""

    base_model: str
    training_file_id: str
    validation_file_id: str | None
    method: Method
    hyperparameters: Hyperparameters
    suffix: str | None
    seed: int | None
    given: Mapping[str, Any]
    """Method, hyperparameters and integrations as they were given."""
    metadata: Mapping[str, str] | None


def fingerprint(request: Request) -> bytes:
    """What tells a request from every other one of its tenant."""
    text = json.dumps(dataclasses.asdict(request), sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).digest()


async def create_job(
    store: JobStore,
    files: FileStore,
    runs: Runs,
    clock: Clock,
    *,
    tenant: str,
    request: Request,
    request_key: str,
    name: str = "",
) -> tuple[TuningJob, Run]:
    """Makes a job and its run, or returns those that the same request has made.

    Raises:
        FieldInvalidError: something of the request.
        FileNotThereError: one of its files.
        JobNameTakenError: the name came with another request.
        RequestKeyReusedError: the key came with another request.
        SchedulerUnavailableError: the run will be made once the scheduler is back.
    """
    check_suffix(request.suffix)
    check_metadata(request.metadata)
    check_request_key(request_key)
    now = clock.now()
    job_id = new_id(JOB_ID, now)
    wish = Wish(
        training_file=await _input(files, tenant, "training_file", request.training_file_id, now),
        validation_file=None
        if request.validation_file_id is None
        else await _input(files, tenant, "validation_file", request.validation_file_id, now),
        base_model=request.base_model,
        model=model_name(request.base_model, tenant, request.suffix, job_id),
        method=request.method,
        hyperparameters=request.hyperparameters,
        seed=choose_seed(request.seed),
    )
    wanted = TuningJob(
        tenant=tenant,
        job_id=job_id,
        wish=wish,
        training_file_id=request.training_file_id,
        validation_file_id=request.validation_file_id,
        given=request.given,
        metadata=request.metadata,
        create_time=now,
        fingerprint=fingerprint(request),
        request_key=request_key,
        name=name,
    )
    job = await store.add_job(wanted)
    if job.fingerprint != wanted.fingerprint:
        raise RequestKeyReusedError(request_key) if request_key else JobNameTakenError(name)
    return await with_run(store, runs, job)


async def with_run(store: JobStore, runs: Runs, job: TuningJob) -> tuple[TuningJob, Run]:
    """The job and its run, which is made if there is none yet.

    A job that the scheduler refuses was never asked for.
    """
    if job.run_id:
        return job, await runs.get(job.tenant, job.run_id)
    try:
        run = await runs.create(job.tenant, job.wish)
    except SchedulerUnavailableError:
        raise
    except Exception:
        await store.drop_job(job)
        raise
    await store.set_run(job, run.run_id)
    return dataclasses.replace(job, run_id=run.run_id), run


async def adopt_jobs(store: JobStore, runs: Runs) -> None:
    """Makes the runs of jobs whose maker did not get that far."""
    for job in await store.list_without_run(ADOPTED_MAX):
        await with_run(store, runs, job)


async def _input(
    files: FileStore, tenant: str, field: str, file_id: str, now: datetime.datetime
) -> InputFile:
    file = await files.find_file(tenant, file_id, now)
    if file is None:
        raise FileNotThereError(file_id, field)
    if file.purpose != FINE_TUNE:
        raise FieldInvalidError(field, f"a file that was sent for {FINE_TUNE}")
    if file.bytes_count > FILE_BYTES_MAX:
        raise FieldInvalidError(field, f"a file of at most {FILE_BYTES_MAX:,} bytes")
    return InputFile(file.digest, file.bytes_count)
