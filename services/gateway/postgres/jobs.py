"""Fine-tuning jobs and permissions in PostgreSQL."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from services.chassis.crashpoint import crashpoint
from services.chassis.database import EVERYONE, Connection, Database
from services.gateway.core.errors import QuotaExceededError
from services.gateway.core.file import File
from services.gateway.core.permission import PERMISSIONS_MAX, Permission
from services.gateway.core.run import Hyperparameters, InputFile, Method, Wish
from services.gateway.core.tuning_job import KEY_LIFE, REPEAT, TuningJob
from services.gateway.postgres.files import insert_file
from services.gateway.postgres.queries import SQL


class PostgresJobStore:
    """The job store on a database bound to the gateway's schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_job(self, job: TuningJob) -> TuningJob:
        """Adds a job, unless it is a repeat; returns the job that stands."""
        async with self._database.begin(job.tenant) as connection:
            await connection.execute(SQL["lock_tenant"], job.tenant)
            row = await _repeated(connection, job)
            if row is not None:
                return _job(row)
            await connection.execute(SQL["add_job"], *_values(job))
        crashpoint("gateway.job.committed")
        return job

    async def drop_job(self, job: TuningJob) -> None:
        """Removes a job that has no run."""
        await self._database.of(job.tenant).execute(SQL["drop_job"], job.job_id)

    async def find_job(self, tenant: str, job_id: str) -> TuningJob | None:
        """Returns a job."""
        row = await self._database.of(tenant).fetchrow(SQL["find_job"], tenant, job_id)
        return None if row is None else _job(row)

    async def find_named_job(self, tenant: str, name: str) -> TuningJob | None:
        """Returns the job that is found by a name."""
        row = await self._database.of(tenant).fetchrow(SQL["find_named_job"], tenant, name)
        return None if row is None else _job(row)

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
        wanted = json.dumps(dict(metadata)) if metadata else None
        rows = await self._database.of(tenant).fetch(
            SQL["list_jobs"], tenant, after, wanted, bare, limit, named
        )
        return [_job(row) for row in rows]

    async def list_without_run(self, limit: int) -> list[TuningJob]:
        """Returns jobs of all tenants that have no run yet."""
        return [
            _job(row)
            for row in await self._database.of(EVERYONE).fetch(SQL["list_without_run"], limit)
        ]

    async def list_unannounced(self, *, after: str, limit: int) -> list[TuningJob]:
        """Returns jobs of all tenants whose end has not been told."""
        return [
            _job(row)
            for row in await self._database.of(EVERYONE).fetch(
                SQL["list_unannounced"], after, limit
            )
        ]

    async def set_announced(self, job: TuningJob) -> None:
        """Notes that the end of a job has been told."""
        await self._database.of(job.tenant).execute(SQL["set_announced"], job.job_id)
        crashpoint("gateway.end.noted")

    async def list_untracked(self, *, after: str, limit: int) -> list[TuningJob]:
        """Returns jobs of all tenants with integrations whose run is not tracked yet."""
        return [
            _job(row)
            for row in await self._database.of(EVERYONE).fetch(SQL["list_untracked"], after, limit)
        ]

    async def set_tracked(self, job: TuningJob) -> None:
        """Notes that nothing more is to be tracked of a job."""
        await self._database.of(job.tenant).execute(SQL["set_tracked"], job.job_id)

    async def set_run(self, job: TuningJob, run_id: str) -> None:
        """Notes the run of a job."""
        await self._database.of(job.tenant).execute(SQL["set_run"], job.job_id, run_id)
        crashpoint("gateway.run.noted")

    async def set_result(self, job: TuningJob, file: File) -> str:
        """Keeps the file that a run has made, unless the job has one."""
        async with self._database.begin(job.tenant) as connection:
            known = await connection.fetchval(SQL["lock_result"], job.job_id)
            if known:
                return str(known)
            await insert_file(connection, file)
            await connection.execute(SQL["set_result"], job.job_id, file.file_id)
            crashpoint("gateway.result.written")
        return file.file_id

    async def release_wish(self, job: TuningJob) -> None:
        """Takes the same request for a new wish from now on."""
        await self._database.of(job.tenant).execute(SQL["release_wish"], job.job_id)

    async def add_permissions(self, permissions: Sequence[Permission]) -> list[Permission]:
        """Adds permissions; returns those that stand."""
        async with self._database.begin(permissions[0].tenant) as connection:
            first = permissions[0]
            await connection.execute(SQL["lock_tenant"], first.tenant)
            standing = []
            for new in permissions:
                values = (new.permission_id, new.tenant, new.checkpoint, new.project)
                row = await connection.fetchrow(SQL["add_permission"], *values, new.create_time)
                assert row is not None
                standing.append(Permission(**dict(row)))
            counted = (SQL["count_permissions"], first.tenant, first.checkpoint)
            if await connection.fetchval(*counted) > PERMISSIONS_MAX:
                raise QuotaExceededError("permissions of the checkpoint", PERMISSIONS_MAX)
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
        order = "newest" if newest_first else "oldest"
        query = SQL[f"list_permissions_{order}_first"]
        rows = await self._database.of(tenant).fetch(
            query, tenant, checkpoint, after, project, limit
        )
        return [Permission(**dict(row)) for row in rows]

    async def delete_permission(self, tenant: str, checkpoint: str, permission_id: str) -> bool:
        """Removes a permission."""
        values = (tenant, checkpoint, permission_id)
        return bool(await self._database.of(tenant).fetchval(SQL["delete_permission"], *values))


async def _repeated(connection: Connection, job: TuningJob) -> asyncpg.Record | None:
    """The job that a request has made which came before, if it is a repeat."""
    if job.request_key:
        since = job.create_time - KEY_LIFE
        known = (job.tenant, job.request_key, since)
        return await connection.fetchrow(SQL["find_job_by_key"], *known)
    if job.name:
        row = await connection.fetchrow(SQL["find_named_job"], job.tenant, job.name)
        if row is not None:
            return row
    since = job.create_time - REPEAT
    return await connection.fetchrow(
        SQL["find_job_by_fingerprint"], job.tenant, job.fingerprint, since
    )


def _values(job: TuningJob) -> tuple[Any, ...]:
    return (
        job.tenant,
        job.job_id,
        json.dumps(dataclasses.asdict(job.wish)),
        job.training_file_id,
        job.validation_file_id,
        json.dumps(dict(job.given)),
        None if job.metadata is None else json.dumps(dict(job.metadata)),
        job.create_time,
        job.fingerprint,
        job.request_key,
        job.name,
        job.run_id,
        job.result_file_id,
    )


def _job(row: asyncpg.Record) -> TuningJob:
    values = dict(row)
    metadata = values["metadata"]
    return TuningJob(
        **{
            **values,
            "wish": _wish(json.loads(values["wish"])),
            "given": json.loads(values["given"]),
            "metadata": None if metadata is None else json.loads(metadata),
        }
    )


def _wish(content: dict[str, Any]) -> Wish:
    validation = content["validation_file"]
    return Wish(
        **{
            **content,
            "training_file": InputFile(**content["training_file"]),
            "validation_file": None if validation is None else InputFile(**validation),
            "method": Method(content["method"]),
            "hyperparameters": Hyperparameters(**content["hyperparameters"]),
        }
    )
