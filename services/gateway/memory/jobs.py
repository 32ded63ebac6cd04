"""Fine-tuning jobs and permissions in dictionaries, for tests."""

import dataclasses
from collections.abc import Mapping, Sequence

from services.gateway.core.errors import QuotaExceededError
from services.gateway.core.file import File
from services.gateway.core.permission import PERMISSIONS_MAX, Permission
from services.gateway.core.tuning_job import KEY_LIFE, REPEAT, TuningJob
from services.gateway.memory.files import MemoryFileStore


class MemoryJobStore:
    """The job store of a test, beside its file store."""

    def __init__(self, files: MemoryFileStore) -> None:
        self._files = files
        self._jobs: dict[str, TuningJob] = {}
        self._released: set[str] = set()
        self._announced: set[str] = set()
        self._tracked: set[str] = set()
        self._permissions: dict[str, Permission] = {}

    async def add_job(self, job: TuningJob) -> TuningJob:
        """Adds a job, unless it is a repeat; returns the job that stands."""
        for known in reversed(self._jobs.values()):
            if known.tenant != job.tenant:
                continue
            age = job.create_time - known.create_time
            if job.request_key:
                repeat = known.request_key == job.request_key and age < KEY_LIFE
            else:
                fresh = age < REPEAT and known.job_id not in self._released
                same = known.fingerprint == job.fingerprint
                repeat = (same and fresh) or bool(job.name and known.name == job.name)
            if repeat:
                return known
        self._jobs[job.job_id] = job
        return job

    async def drop_job(self, job: TuningJob) -> None:
        """Removes a job that has no run."""
        if not self._jobs[job.job_id].run_id:
            del self._jobs[job.job_id]

    async def find_job(self, tenant: str, job_id: str) -> TuningJob | None:
        """Returns a job."""
        job = self._jobs.get(job_id)
        return job if job and job.tenant == tenant else None

    async def find_named_job(self, tenant: str, name: str) -> TuningJob | None:
        """Returns the job that is found by a name."""
        for job in self._jobs.values():
            if job.name and (job.tenant, job.name) == (tenant, name):
                return job
        return None

    async def list_jobs(
        self,
        tenant: str,
        *,
        after: str,
        limit: int,
        metadata: Mapping[str, str] | None,
        bare: bool,
        named: bool = False,
    ) -> list[TuningJob]:
        """Returns jobs older than an id, newest first."""
        found = [
            job
            for job in self._jobs.values()
            if job.tenant == tenant
            and (not after or job.job_id < after)
            and (not metadata or metadata.items() <= (job.metadata or {}).items())
            and (not bare or not job.metadata)
            and bool(job.name) == named
        ]
        return sorted(found, key=lambda job: job.job_id, reverse=True)[:limit]

    async def list_without_run(self, limit: int) -> list[TuningJob]:
        """Returns jobs of all tenants that have no run yet."""
        found = [job for job in self._jobs.values() if not job.run_id]
        return sorted(found, key=lambda job: job.job_id)[:limit]

    async def list_unannounced(self, *, after: str, limit: int) -> list[TuningJob]:
        """Returns jobs of all tenants whose end has not been told."""
        found = [
            job
            for job_id, job in self._jobs.items()
            if job.run_id and job_id > after and job_id not in self._announced
        ]
        return sorted(found, key=lambda job: job.job_id)[:limit]

    async def set_announced(self, job: TuningJob) -> None:
        """Notes that the end of a job has been told."""
        self._announced.add(job.job_id)

    async def list_untracked(self, *, after: str, limit: int) -> list[TuningJob]:
        """Returns jobs of all tenants with integrations whose run is not tracked yet."""
        found = [
            self._jobs[job_id]
            for job_id in self._announced - self._tracked
            if job_id > after and self._jobs[job_id].given.get("integrations") is not None
        ]
        return sorted(found, key=lambda job: job.job_id)[:limit]

    async def set_tracked(self, job: TuningJob) -> None:
        """Notes that nothing more is to be tracked of a job."""
        self._tracked.add(job.job_id)

    async def set_run(self, job: TuningJob, run_id: str) -> None:
        """Notes the run of a job."""
        self._jobs[job.job_id] = dataclasses.replace(self._jobs[job.job_id], run_id=run_id)

    async def set_result(self, job: TuningJob, file: File) -> str:
        """Keeps the file that a run has made, unless the job has one."""
        known = self._jobs[job.job_id]
        if known.result_file_id:
            return known.result_file_id
        await self._files.add_file(file)
        self._jobs[job.job_id] = dataclasses.replace(known, result_file_id=file.file_id)
        return file.file_id

    async def release_wish(self, job: TuningJob) -> None:
        """Takes the same request for a new wish from now on."""
        self._released.add(job.job_id)

    async def add_permissions(self, permissions: Sequence[Permission]) -> list[Permission]:
        """Adds permissions; returns those that stand."""
        kept = dict(self._permissions)
        standing = []
        for new in permissions:
            same = [
                known
                for known in kept.values()
                if (known.tenant, known.checkpoint, known.project)
                == (new.tenant, new.checkpoint, new.project)
            ]
            standing.append(same[0] if same else kept.setdefault(new.permission_id, new))
        first = permissions[0]
        of_checkpoint = [
            known
            for known in kept.values()
            if (known.tenant, known.checkpoint) == (first.tenant, first.checkpoint)
        ]
        if len(of_checkpoint) > PERMISSIONS_MAX:
            raise QuotaExceededError("permissions of the checkpoint", PERMISSIONS_MAX)
        self._permissions = kept
        return standing

    async def list_permissions(
        self,
        tenant: str,
        checkpoint: str,
        *,
        after: str,
        limit: int,
        newest_first: bool,
        project: str,
    ) -> list[Permission]:
        """Returns permissions of a checkpoint beyond an id."""
        found = [
            known
            for known in self._permissions.values()
            if (known.tenant, known.checkpoint) == (tenant, checkpoint)
            and (not project or known.project == project)
            and (
                not after
                or (known.permission_id < after if newest_first else known.permission_id > after)
            )
        ]
        return sorted(found, key=lambda known: known.permission_id, reverse=newest_first)[:limit]

    async def delete_permission(self, tenant: str, checkpoint: str, permission_id: str) -> bool:
        """Removes a permission."""
        known = self._permissions.get(permission_id)
        if known is None or (known.tenant, known.checkpoint) != (tenant, checkpoint):
            return False
        del self._permissions[permission_id]
        return True
