"""Files and uploads in PostgreSQL."""

import datetime
from collections.abc import Awaitable, Callable

import asyncpg

from services.chassis.crashpoint import crashpoint
from services.chassis.database import EVERYONE, Connection, Database
from services.gateway.core.errors import FileNameTakenError, QuotaExceededError, UploadStateError
from services.gateway.core.file import FILES_MAX, KEEP, File
from services.gateway.core.upload import UPLOADS_KEPT, UPLOADS_MAX, Part, Upload, UploadState
from services.gateway.postgres.queries import SQL


class PostgresFileStore:
    """The file store on a database bound to the gateway's schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_file(self, file: File) -> None:
        """Adds a file."""
        async with self._database.begin(file.tenant) as connection:
            await _add_file(connection, file)
        crashpoint("gateway.file.committed")

    async def find_file(self, tenant: str, file_id: str, now: datetime.datetime) -> File | None:
        """Returns a file that has not expired."""
        row = await self._database.of(tenant).fetchrow(SQL["find_file"], tenant, file_id, now)
        return None if row is None else File(**dict(row))

    async def find_named_file(
        self, tenant: str, filename: str, now: datetime.datetime
    ) -> File | None:
        """Returns the file that is found by this name."""
        row = await self._database.of(tenant).fetchrow(
            SQL["find_named_file"], tenant, filename, now
        )
        return None if row is None else File(**dict(row))

    async def list_files(
        self,
        tenant: str,
        *,
        purpose: str,
        named: bool = False,
        after: str,
        limit: int,
        newest_first: bool,
        now: datetime.datetime,
    ) -> list[File]:
        """Returns files beyond an id."""
        query = SQL["list_files_newest_first" if newest_first else "list_files_oldest_first"]
        rows = await self._database.of(tenant).fetch(
            query, tenant, purpose, after, now, limit, named
        )
        return [File(**dict(row)) for row in rows]

    async def delete_file(self, tenant: str, file_id: str, now: datetime.datetime) -> bool:
        """Removes a file."""
        values = (tenant, file_id, now, now + KEEP)
        return bool(await self._database.of(tenant).fetchval(SQL["delete_file"], *values))

    async def add_upload(self, upload: Upload) -> None:
        """Adds a pending upload."""
        async with self._database.begin(upload.tenant) as connection:
            await connection.execute(SQL["lock_tenant"], upload.tenant)
            pending = (SQL["count_pending_uploads"], upload.tenant, upload.create_time)
            if await connection.fetchval(*pending) >= UPLOADS_MAX:
                raise QuotaExceededError("pending uploads", UPLOADS_MAX)
            await connection.execute(
                SQL["add_upload"],
                upload.upload_id,
                upload.tenant,
                upload.filename,
                upload.mime_type,
                upload.purpose,
                upload.bytes_count,
                upload.expires_after_seconds,
                upload.create_time,
                upload.expire_time,
                upload.state,
                upload.named,
                upload.file_id,
            )

    async def find_upload(self, tenant: str, upload_id: str) -> Upload | None:
        """Returns an upload."""
        row = await self._database.of(tenant).fetchrow(SQL["find_upload"], tenant, upload_id)
        return None if row is None else _upload(row)

    async def find_started_upload(
        self, tenant: str, filename: str, now: datetime.datetime
    ) -> Upload | None:
        """Returns the latest pending upload of a file that is to be found by this name."""
        row = await self._database.of(tenant).fetchrow(
            SQL["find_started_upload"], tenant, filename, now
        )
        return None if row is None else _upload(row)

    async def add_part(self, upload: Upload, part: Part, parts_max: int) -> None:
        """Adds a part to a pending upload."""
        async with self._database.begin(upload.tenant) as connection:
            state = await _lock_upload(connection, part.upload_id, part.create_time)
            if state is not UploadState.PENDING:
                raise UploadStateError(part.upload_id, state)
            if await connection.fetchval(SQL["count_parts"], part.upload_id) >= parts_max:
                raise QuotaExceededError("parts of the upload", parts_max)
            await connection.execute(SQL["lock_digest"], part.digest)
            values = (part.part_id, part.upload_id, part.digest, part.bytes_count)
            await connection.execute(SQL["add_part"], *values, part.create_time, part.number)
        crashpoint("gateway.part.committed")

    async def list_parts(self, upload: Upload) -> list[Part]:
        """Returns the parts of an upload."""
        rows = await self._database.of(upload.tenant).fetch(SQL["list_parts"], upload.upload_id)
        return [Part(**dict(row)) for row in rows]

    async def complete_upload(self, upload: Upload, file: File) -> None:
        """Ends a pending upload with its file."""
        async with self._database.begin(upload.tenant) as connection:
            state = await _lock_upload(connection, upload.upload_id, file.create_time)
            if state is UploadState.COMPLETED:
                return
            if state is not UploadState.PENDING:
                raise UploadStateError(upload.upload_id, state)
            await _add_file(connection, file)
            values = (upload.upload_id, UploadState.COMPLETED, file.file_id)
            await connection.execute(SQL["end_upload"], *values)
            await connection.execute(SQL["drop_parts"], upload.upload_id, file.create_time + KEEP)
        crashpoint("gateway.upload.committed")

    async def end_upload(self, upload: Upload, state: UploadState, now: datetime.datetime) -> None:
        """Ends a pending upload without a file."""
        async with self._database.begin(upload.tenant) as connection:
            found = await _lock_upload(connection, upload.upload_id, now)
            if found not in (UploadState.PENDING, state):
                raise UploadStateError(upload.upload_id, found)
            await connection.execute(SQL["end_upload"], upload.upload_id, state, "")
            await connection.execute(SQL["drop_parts"], upload.upload_id, now + KEEP)

    async def expire(self, now: datetime.datetime) -> int:
        """Removes files and ends uploads whose time is over."""
        async with self._database.begin(EVERYONE) as connection:
            files = await connection.fetchval(SQL["expire_files"], now, now + KEEP)
            uploads = await connection.fetch(SQL["expire_uploads"], now)
            for upload in uploads:
                await connection.execute(SQL["drop_parts"], upload["upload_id"], now + KEEP)
            await connection.execute(SQL["forget_uploads"], now - UPLOADS_KEPT)
        return int(files) + len(uploads)

    async def release(self, digest: str, now: datetime.datetime) -> None:
        """Says that bytes may be named by nothing."""
        await self._database.of().execute(SQL["release"], digest, now + KEEP)
        crashpoint("gateway.bytes.released")

    async def list_due(self, now: datetime.datetime, limit: int) -> list[str]:
        """Returns digests of bytes that have been due for long enough."""
        return [
            row["digest"]
            for row in await self._database.of(EVERYONE).fetch(SQL["list_due"], now, limit)
        ]

    async def settle(self, digest: str, erase: Callable[[str], Awaitable[None]]) -> bool:
        """Erases bytes that are due, unless something names them."""
        async with self._database.begin(EVERYONE) as connection:
            await connection.execute(SQL["lock_digest"], digest)
            named = await connection.fetchval(SQL["is_named"], digest)
            if not named:
                await erase(digest)
            await connection.execute(SQL["settle"], digest)
        return not named


async def _add_file(connection: Connection, file: File) -> None:
    await connection.execute(SQL["lock_tenant"], file.tenant)
    if await connection.fetchval(SQL["count_files"], file.tenant) >= FILES_MAX:
        raise QuotaExceededError("files", FILES_MAX)
    if file.named:
        known = (SQL["find_named_file"], file.tenant, file.filename, file.create_time)
        if await connection.fetchrow(*known):
            raise FileNameTakenError(file.filename)
    await insert_file(connection, file)


async def insert_file(connection: Connection, file: File) -> None:
    """Adds a file, however many there are; nobody erases its bytes meanwhile."""
    await connection.execute(SQL["lock_digest"], file.digest)
    await connection.execute(
        SQL["add_file"],
        file.file_id,
        file.tenant,
        file.filename,
        file.purpose,
        file.digest,
        file.bytes_count,
        file.create_time,
        file.expire_time,
        file.named,
        file.media_type,
    )


def _upload(row: asyncpg.Record) -> Upload:
    return Upload(**{**dict(row), "state": UploadState(row["state"])})


async def _lock_upload(
    connection: Connection, upload_id: str, now: datetime.datetime
) -> UploadState:
    """The state of an upload, which nobody changes meanwhile; one whose time is over is expired."""
    return UploadState(await connection.fetchval(SQL["lock_upload"], upload_id, now))
