"""Announcing an upload, adding parts to it, and making a file of them or dropping them."""

import dataclasses
import datetime
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence

from services.gateway.core.create_file import check_kept, receive
from services.gateway.core.errors import (
    FieldInvalidError,
    FileNameTakenError,
    UploadNotFoundError,
    UploadStateError,
)
from services.gateway.core.file import (
    FILE_ID,
    File,
    check_expiry,
    check_filename,
    check_media_type,
    check_purpose,
    expiry,
)
from services.gateway.core.ids import new_id
from services.gateway.core.ports import Clock, Contents, FileStore
from services.gateway.core.upload import (
    PART_BYTES_MAX,
    PART_ID,
    PARTS_MAX,
    UPLOAD_BYTES_MAX,
    UPLOAD_ID,
    UPLOAD_SECONDS,
    Part,
    Span,
    Upload,
    UploadState,
    future_file_id,
    spans,
)


async def create_upload(
    store: FileStore,
    clock: Clock,
    *,
    tenant: str,
    filename: str,
    mime_type: str,
    purpose: str,
    bytes_count: int,
    expires_after_seconds: int | None,
    named: bool = False,
    bytes_max: int = UPLOAD_BYTES_MAX,
) -> Upload:
    """Announces a file of so many bytes.

    Raises:
        FieldInvalidError: something of it; "bytes" if they are too many.
        FileNameTakenError: it is to be found by its name, and another file is.
        QuotaExceededError: too many uploads of the tenant are pending.
    """
    check_filename(filename)
    check_purpose(purpose)
    check_expiry(expires_after_seconds)
    check_media_type(mime_type)
    if not 1 <= bytes_count <= bytes_max:
        raise FieldInvalidError("bytes", f"an integer from 1 to {bytes_max:,}")
    now = clock.now()
    if named and await store.find_named_file(tenant, filename, now):
        raise FileNameTakenError(filename)
    upload = Upload(
        tenant=tenant,
        upload_id=new_id(UPLOAD_ID, now),
        filename=filename,
        mime_type=mime_type,
        purpose=purpose,
        bytes_count=bytes_count,
        expires_after_seconds=expires_after_seconds,
        create_time=now,
        expire_time=now + datetime.timedelta(seconds=UPLOAD_SECONDS),
        named=named,
    )
    await store.add_upload(upload)
    return upload


async def find_upload(store: FileStore, clock: Clock, tenant: str, upload_id: str) -> Upload:
    """Returns an upload in its state of now.

    Raises:
        UploadNotFoundError: the tenant has no such upload.
    """
    upload = await store.find_upload(tenant, upload_id)
    if upload is None:
        raise UploadNotFoundError(upload_id)
    if upload.state is UploadState.PENDING and upload.expire_time <= clock.now():
        return dataclasses.replace(upload, state=UploadState.EXPIRED)
    return upload


async def add_part(
    store: FileStore,
    contents: Contents,
    clock: Clock,
    *,
    tenant: str,
    upload_id: str,
    chunks: AsyncIterable[bytes],
    number: int | None = None,
) -> Part:
    """Keeps a part. One that is sent again is another part: completing names those that count.

    A numbered part has a length that is known before.

    Raises:
        UploadNotFoundError: the tenant has no such upload.
        UploadStateError: it is not pending.
        FieldInvalidError: there is no part of this number, or its length is another one.
        FileTooLargeError: the part is too large.
        QuotaExceededError: the upload has too many parts.
    """
    upload = await pending_upload(store, clock, tenant, upload_id)
    span = None if number is None else find_span(upload, number)
    digest, bytes_count = await receive(store, contents, clock, chunks, PART_BYTES_MAX)
    if span is not None and bytes_count != span.bytes_count:
        raise FieldInvalidError("body", f"the {span.bytes_count:,} bytes of the part")
    now = clock.now()
    part = Part(
        upload_id=upload_id,
        part_id=new_id(PART_ID, now),
        digest=digest,
        bytes_count=bytes_count,
        create_time=now,
        number=number,
    )
    await store.add_part(upload, part, PARTS_MAX)
    return part


def find_span(upload: Upload, number: int) -> Span:
    """The numbered part of an upload.

    Raises:
        FieldInvalidError: there is none of this number.
    """
    known = spans(upload.bytes_count)
    if not 0 <= number < len(known):
        raise FieldInvalidError("part_number", f"an integer from 0 to {len(known) - 1}")
    return known[number]


async def complete_upload(
    store: FileStore,
    contents: Contents,
    clock: Clock,
    *,
    tenant: str,
    upload_id: str,
    part_ids: Sequence[str],
    md5: str,
) -> tuple[Upload, File]:
    """Makes a file of the parts, in the order given. A repeat answers the file that was made.

    Raises:
        UploadNotFoundError: the tenant has no such upload.
        UploadStateError: it is cancelled or expired.
        FileNameTakenError: it is to be found by its name, and another file is by now.
        FieldInvalidError: parts that are not the upload's, or not all of its bytes; a wrong MD5.
    """
    upload = await find_upload(store, clock, tenant, upload_id)
    if upload.state is UploadState.COMPLETED:
        return upload, await _file_of(store, clock, upload)
    _check_pending(upload)
    parts = _in_order(await store.list_parts(upload), part_ids)
    if sum(part.bytes_count for part in parts) != upload.bytes_count:
        rule = f"parts of {upload.bytes_count:,} bytes in all, as announced"
        raise FieldInvalidError("part_ids", rule)
    seen = hashlib.md5(usedforsecurity=False)
    joined = _joined(contents, parts, seen.update)
    digest, bytes_count = await receive(store, contents, clock, joined, upload.bytes_count)
    if md5 and md5.lower() != seen.hexdigest():
        raise FieldInvalidError("md5", f"the MD5 of the parts in order, {seen.hexdigest()}")
    now = clock.now()
    file = File(
        tenant=tenant,
        file_id=future_file_id(upload) if upload.named else new_id(FILE_ID, now),
        filename=upload.filename,
        purpose=upload.purpose,
        digest=digest,
        bytes_count=bytes_count,
        create_time=now,
        expire_time=expiry(now, upload.expires_after_seconds),
        named=upload.named,
        media_type=upload.mime_type,
    )
    await store.complete_upload(upload, file)
    await check_kept(store, contents, file)
    completed = await find_upload(store, clock, tenant, upload_id)
    return completed, await _file_of(store, clock, completed)


async def cancel_upload(store: FileStore, clock: Clock, tenant: str, upload_id: str) -> Upload:
    """Drops an upload and its parts. Cancelling a cancelled one changes nothing.

    Raises:
        UploadNotFoundError: the tenant has no such upload.
        UploadStateError: it is completed or expired.
    """
    upload = await find_upload(store, clock, tenant, upload_id)
    if upload.state is UploadState.CANCELLED:
        return upload
    _check_pending(upload)
    await store.end_upload(upload, UploadState.CANCELLED, clock.now())
    return await find_upload(store, clock, tenant, upload_id)


async def pending_upload(store: FileStore, clock: Clock, tenant: str, upload_id: str) -> Upload:
    """Returns an upload that goes on.

    Raises:
        UploadNotFoundError: the tenant has no such upload.
        UploadStateError: it is not pending.
    """
    upload = await find_upload(store, clock, tenant, upload_id)
    _check_pending(upload)
    return upload


def _check_pending(upload: Upload) -> None:
    if upload.state is not UploadState.PENDING:
        raise UploadStateError(upload.upload_id, upload.state)


async def _file_of(store: FileStore, clock: Clock, upload: Upload) -> File:
    file = await store.find_file(upload.tenant, upload.file_id, clock.now())
    if file is None:  # it was deleted, or has expired, since
        raise UploadNotFoundError(upload.upload_id)
    return file


def _in_order(parts: list[Part], part_ids: Sequence[str]) -> list[Part]:
    by_id = {part.part_id: part for part in parts}
    if not part_ids or len(set(part_ids)) != len(part_ids) or not by_id.keys() >= set(part_ids):
        raise FieldInvalidError("part_ids", "ids of the upload's parts, each once, in order")
    return [by_id[part_id] for part_id in part_ids]


async def _joined(
    contents: Contents, parts: list[Part], see: Callable[[bytes], None]
) -> AsyncIterator[bytes]:
    for part in parts:
        async for chunk in contents.stream(part.digest):
            see(chunk)
            yield chunk
