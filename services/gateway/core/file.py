"""A file that a tenant has sent, or that a run has made for it."""

import datetime
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from services.gateway.core.errors import FieldInvalidError, FileTooLargeError

FILE_ID = "file-"
FILE_BYTES_MAX = 512 * 1024**2
FILES_MAX = 10_000
"""Files of a tenant at one time."""
FILENAME_CHARACTERS_MAX = 255
MEDIA_TYPE_CHARACTERS_MAX = 255
PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
"""What a file may be sent for. A run reads files that were sent for "fine-tune"."""
RESULTS = "fine-tune-results"
"""What a file is for that a run has made."""
KEEP = datetime.timedelta(hours=24)
"""How long bytes stay once nothing names them: a run that has begun may still read them."""
EXPIRY_SECONDS_MIN = 3_600
EXPIRY_SECONDS_MAX = 2_592_000


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file. Its bytes lie in the artifact store under their digest."""

    tenant: str
    file_id: str
    filename: str
    purpose: str
    digest: str
    bytes_count: int
    create_time: datetime.datetime
    expire_time: datetime.datetime | None = None
    named: bool = False
    """Whether no other file of the tenant may be found by the same name."""
    media_type: str = ""
    """As it was sent, where the dialect asks for it."""


def check_filename(filename: str) -> None:
    """Refuses a name that could not be shown in a line."""
    if not 1 <= len(filename) <= FILENAME_CHARACTERS_MAX or not filename.isprintable():
        raise FieldInvalidError("filename", f"1 to {FILENAME_CHARACTERS_MAX} printable characters")


def check_media_type(media_type: str) -> None:
    """Refuses a type that could not be shown in a line."""
    if not 1 <= len(media_type) <= MEDIA_TYPE_CHARACTERS_MAX or not media_type.isprintable():
        rule = f"1 to {MEDIA_TYPE_CHARACTERS_MAX} printable characters"
        raise FieldInvalidError("mime_type", rule)


def check_purpose(purpose: str) -> None:
    """Refuses a purpose that no file is sent for."""
    if purpose not in PURPOSES:
        raise FieldInvalidError("purpose", f"one of {', '.join(PURPOSES)}")


def check_expiry(seconds: int | None) -> None:
    """Refuses a life that is too short or too long."""
    if seconds is not None and not EXPIRY_SECONDS_MIN <= seconds <= EXPIRY_SECONDS_MAX:
        rule = f"an integer from {EXPIRY_SECONDS_MIN:,} to {EXPIRY_SECONDS_MAX:,}"
        raise FieldInvalidError("expires_after[seconds]", rule)


def expiry(now: datetime.datetime, seconds: int | None) -> datetime.datetime | None:
    """When a file expires that lives so long from now on; None for one that does not."""
    return None if seconds is None else now + datetime.timedelta(seconds=seconds)


async def limited(chunks: AsyncIterable[bytes], bytes_max: int) -> AsyncIterator[bytes]:
    """The same stream, broken off once it is too long.

    Raises:
        FileTooLargeError: it is.
    """
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > bytes_max:
            raise FileTooLargeError(bytes_max)
        yield chunk
