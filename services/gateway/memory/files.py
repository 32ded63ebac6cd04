"""Files and uploads in dictionaries, for tests."""

import dataclasses
import datetime
from collections.abc import Awaitable, Callable

from services.gateway.core.errors import FileNameTakenError, QuotaExceededError, UploadStateError
from services.gateway.core.file import FILES_MAX, KEEP, File
from services.gateway.core.upload import UPLOADS_KEPT, UPLOADS_MAX, Part, Upload, UploadState


class MemoryFileStore:
    """The file store of a test."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._uploads: dict[str, Upload] = {}
        self._parts: dict[str, Part] = {}
        self._due: dict[str, datetime.datetime] = {}

    async def add_file(self, file: File) -> None:
        """Adds a file."""
        if sum(known.tenant == file.tenant for known in self._files.values()) >= FILES_MAX:
            raise QuotaExceededError("files", FILES_MAX)
        if file.named and await self.find_named_file(file.tenant, file.filename, file.create_time):
            raise FileNameTakenError(file.filename)
        self._files[file.file_id] = file

    async def find_file(self, tenant: str, file_id: str, now: datetime.datetime) -> File | None:
        """Returns a file that has not expired."""
        file = self._files.get(file_id)
        return file if file and file.tenant == tenant and not _over(file, now) else None

    async def find_named_file(
        self, tenant: str, filename: str, now: datetime.datetime
    ) -> File | None:
        """Returns the file that is found by this name."""
        for file in self._files.values():
            named = file.named and (file.tenant, file.filename) == (tenant, filename)
            if named and not _over(file, now):
                return file
        return None

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
        found = [
            file
            for file in self._files.values()
            if file.tenant == tenant
            and (not purpose or file.purpose == purpose)
            and (not named or file.named)
            and (not after or (file.file_id < after if newest_first else file.file_id > after))
            and not _over(file, now)
        ]
        return sorted(found, key=lambda file: file.file_id, reverse=newest_first)[:limit]

    async def delete_file(self, tenant: str, file_id: str, now: datetime.datetime) -> bool:
        """Removes a file."""
        file = await self.find_file(tenant, file_id, now)
        if file is None:
            return False
        del self._files[file_id]
        await self.release(file.digest, now)
        return True

    async def add_upload(self, upload: Upload) -> None:
        """Adds a pending upload."""
        pending = [
            known
            for known in self._uploads.values()
            if known.tenant == upload.tenant
            and _state(known, upload.create_time) is UploadState.PENDING
        ]
        if len(pending) >= UPLOADS_MAX:
            raise QuotaExceededError("pending uploads", UPLOADS_MAX)
        self._uploads[upload.upload_id] = upload

    async def find_upload(self, tenant: str, upload_id: str) -> Upload | None:
        """Returns an upload."""
        upload = self._uploads.get(upload_id)
        return upload if upload and upload.tenant == tenant else None

    async def find_started_upload(
        self, tenant: str, filename: str, now: datetime.datetime
    ) -> Upload | None:
        """Returns the latest pending upload of a file that is to be found by this name."""
        for upload in reversed(self._uploads.values()):
            named = upload.named and (upload.tenant, upload.filename) == (tenant, filename)
            if named and _state(upload, now) is UploadState.PENDING:
                return upload
        return None

    async def add_part(self, upload: Upload, part: Part, parts_max: int) -> None:
        """Adds a part to a pending upload."""
        state = _state(self._uploads[upload.upload_id], part.create_time)
        if state is not UploadState.PENDING:
            raise UploadStateError(upload.upload_id, state)
        if len(await self.list_parts(upload)) >= parts_max:
            raise QuotaExceededError("parts of the upload", parts_max)
        self._parts[part.part_id] = part

    async def list_parts(self, upload: Upload) -> list[Part]:
        """Returns the parts of an upload."""
        mine = upload.upload_id
        parts = [part for part in self._parts.values() if part.upload_id == mine]
        return sorted(parts, key=lambda part: part.part_id)

    async def complete_upload(self, upload: Upload, file: File) -> None:
        """Ends a pending upload with its file."""
        state = _state(self._uploads[upload.upload_id], file.create_time)
        if state is UploadState.COMPLETED:
            return
        if state is not UploadState.PENDING:
            raise UploadStateError(upload.upload_id, state)
        await self.add_file(file)
        await self._end(upload.upload_id, UploadState.COMPLETED, file.file_id, file.create_time)

    async def end_upload(self, upload: Upload, state: UploadState, now: datetime.datetime) -> None:
        """Ends a pending upload without a file."""
        found = _state(self._uploads[upload.upload_id], now)
        if found not in (UploadState.PENDING, state):
            raise UploadStateError(upload.upload_id, found)
        await self._end(upload.upload_id, state, "", now)

    async def expire(self, now: datetime.datetime) -> int:
        """Removes files and ends uploads whose time is over."""
        files = [file for file in self._files.values() if _over(file, now)]
        for file in files:
            del self._files[file.file_id]
            await self.release(file.digest, now)
        uploads = [
            upload
            for upload in self._uploads.values()
            if upload.state is UploadState.PENDING and upload.expire_time <= now
        ]
        for upload in uploads:
            await self._end(upload.upload_id, UploadState.EXPIRED, "", now)
        self._uploads = {
            upload_id: upload
            for upload_id, upload in self._uploads.items()
            if upload.state is UploadState.PENDING or upload.expire_time >= now - UPLOADS_KEPT
        }
        return len(files) + len(uploads)

    async def release(self, digest: str, now: datetime.datetime) -> None:
        """Says that bytes may be named by nothing."""
        self._due[digest] = now + KEEP

    async def list_due(self, now: datetime.datetime, limit: int) -> list[str]:
        """Returns digests of bytes that have been due for long enough."""
        due = sorted((time, digest) for digest, time in self._due.items() if time <= now)
        return [digest for _, digest in due[:limit]]

    async def settle(self, digest: str, erase: Callable[[str], Awaitable[None]]) -> bool:
        """Erases bytes that are due, unless something names them."""
        digests = {file.digest for file in self._files.values()}
        named = digest in digests | {part.digest for part in self._parts.values()}
        if not named:
            await erase(digest)
        self._due.pop(digest, None)
        return not named

    async def _end(
        self, upload_id: str, state: UploadState, file_id: str, now: datetime.datetime
    ) -> None:
        ended = dataclasses.replace(self._uploads[upload_id], state=state, file_id=file_id)
        self._uploads[upload_id] = ended
        for part in await self.list_parts(ended):
            del self._parts[part.part_id]
            await self.release(part.digest, now)


def _over(file: File, now: datetime.datetime) -> bool:
    return file.expire_time is not None and file.expire_time <= now


def _state(upload: Upload, now: datetime.datetime) -> UploadState:
    pending = upload.state is UploadState.PENDING
    return UploadState.EXPIRED if pending and upload.expire_time <= now else upload.state
