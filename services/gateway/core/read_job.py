"""Reading jobs with their runs, and steering them."""

import dataclasses
from collections.abc import Mapping

from services.gateway.core.create_job import with_run
from services.gateway.core.errors import JobNotFoundError
from services.gateway.core.file import FILE_ID, RESULTS, File
from services.gateway.core.ids import new_id
from services.gateway.core.page import Page, page_of
from services.gateway.core.ports import Clock, JobStore, Runs
from services.gateway.core.run import Run, RunState, Verb
from services.gateway.core.tuning_job import TuningJob

RESULT_FILENAME = "step_metrics.csv"


class Jobs:
    """The jobs of all tenants, as they stand now."""

    def __init__(self, store: JobStore, runs: Runs, clock: Clock) -> None:
        self._store = store
        self._runs = runs
        self._clock = clock

    async def find(self, tenant: str, job_id: str) -> TuningJob:
        """Returns a job without its run.

        Raises:
            JobNotFoundError: the tenant has no such job.
        """
        job = await self._store.find_job(tenant, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        return job

    async def find_named(self, tenant: str, name: str) -> TuningJob:
        """Returns the job that is found by a name, without its run.

        Raises:
            JobNotFoundError: the tenant has no such job.
        """
        job = await self._store.find_named_job(tenant, name)
        if job is None:
            raise JobNotFoundError(name)
        return job

    async def read(self, tenant: str, job_id: str) -> tuple[TuningJob, Run]:
        """Returns a job and how its run stands."""
        job = await self.find(tenant, job_id)
        run = await self._runs.get(tenant, job.run_id) if job.run_id else None
        return await self._with_result(job, run)

    async def list(
        self,
        tenant: str,
        *,
        after: str,
        limit: int,
        metadata: Mapping[str, str] | None = None,
        bare: bool = False,
        named: bool = False,
    ) -> Page[tuple[TuningJob, Run]]:
        """Returns jobs, newest first: those with all of some metadata, or those without any.

        Jobs with a name and jobs without one are two lists.
        """
        found = await self._store.list_jobs(
            tenant, after=after, limit=limit + 1, metadata=metadata, bare=bare, named=named
        )
        page = page_of(found, limit)
        started = [job.run_id for job in page.items if job.run_id]
        runs = await self._runs.get_all(tenant, started)
        standing = [await self._with_result(job, runs.get(job.run_id)) for job in page.items]
        return Page(standing, page.has_more)

    async def steer(self, tenant: str, job_id: str, verb: Verb) -> tuple[TuningJob, Run]:
        """Does something to a job. One that was cancelled may be wished for anew."""
        job, _ = await with_run(self._store, self._runs, await self.find(tenant, job_id))
        run = await self._runs.steer(tenant, job.run_id, verb)
        if verb is Verb.CANCEL:
            await self._store.release_wish(job)
        return job, run

    async def _with_result(self, job: TuningJob, run: Run | None) -> tuple[TuningJob, Run]:
        """The job as its run has left it; without a run it waits for one."""
        if run is None:
            return job, Run(run_id="", state=RunState.QUEUED)
        if run.result is None or not run.result.digest or job.result_file_id:
            return job, run
        now = self._clock.now()
        file = File(
            tenant=job.tenant,
            file_id=new_id(FILE_ID, now),
            filename=RESULT_FILENAME,
            purpose=RESULTS,
            digest=run.result.digest,
            bytes_count=run.result.bytes_count,
            create_time=now,
        )
        file_id = await self._store.set_result(job, file)
        return dataclasses.replace(job, result_file_id=file_id), run
