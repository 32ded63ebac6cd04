"""Keeping a file whose bytes come as a stream."""

from collections.abc import AsyncIterable

from services.gateway.core.errors import ContentLostError
from services.gateway.core.file import (
    FILE_BYTES_MAX,
    FILE_ID,
    File,
    check_expiry,
    check_filename,
    check_purpose,
    expiry,
    limited,
)
from services.gateway.core.ids import new_id
from services.gateway.core.ports import Clock, Contents, FileStore


async def receive(
    store: FileStore,
    contents: Contents,
    clock: Clock,
    chunks: AsyncIterable[bytes],
    bytes_max: int = FILE_BYTES_MAX,
) -> tuple[str, int]:
    """Keeps bytes that nothing names yet: they fall due at once, and stay if something does.

    Raises:
        FileTooLargeError: there are too many; nothing is kept.
    """
    digest, bytes_count = await contents.put_stream(limited(chunks, bytes_max))
    await store.release(digest, clock.now())
    return digest, bytes_count


async def create_file(
    store: FileStore,
    contents: Contents,
    clock: Clock,
    *,
    tenant: str,
    filename: str,
    purpose: str,
    expires_after_seconds: int | None,
    content: tuple[str, int],
    named: bool = False,
    media_type: str = "",
) -> File:
    """Makes a file of bytes that have been received.

    Raises:
        FieldInvalidError: its name, purpose or life.
        FileNameTakenError: it is to be found by its name, and another file is.
        QuotaExceededError: the tenant has too many files.
        ContentLostError: the bytes were erased at this very moment; sending them again helps.
    """
    check_filename(filename)
    check_purpose(purpose)
    check_expiry(expires_after_seconds)
    now = clock.now()
    digest, bytes_count = content
    file = File(
        tenant=tenant,
        file_id=new_id(FILE_ID, now),
        filename=filename,
        purpose=purpose,
        digest=digest,
        bytes_count=bytes_count,
        create_time=now,
        expire_time=expiry(now, expires_after_seconds),
        named=named,
        media_type=media_type,
    )
    await store.add_file(file)
    await check_kept(store, contents, file)
    return file


async def check_kept(store: FileStore, contents: Contents, file: File) -> None:
    """Takes a new file back whose bytes were erased between their arrival and the file.

    Raises:
        ContentLostError: they were.
    """
    if not await contents.exists(file.digest):
        await store.delete_file(file.tenant, file.file_id, file.create_time)
        raise ContentLostError
