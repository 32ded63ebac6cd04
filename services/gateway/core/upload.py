"""A file that comes in parts: the upload, from its announcement to the file or its end.

pending → completed: a file
   ├────→ cancelled
   └────→ expired: an hour after the announcement
"""

import datetime
import enum
from dataclasses import dataclass

from services.gateway.core.file import FILE_ID

UPLOAD_ID = "upload_"
PART_ID = "part_"
UPLOAD_SECONDS = 3_600
UPLOADS_KEPT = datetime.timedelta(days=30)
"""After its time an upload that has ended can be looked at, and completing it answers its file."""
PART_BYTES_MAX = 64 * 1024**2
PARTS_MAX = 1_024
SPAN_BYTES = 8 * 1024**2
"""A numbered part; the last one is shorter."""
UPLOAD_BYTES_MAX = PARTS_MAX * SPAN_BYTES
"""8 GB, beyond which no configuration goes."""
UPLOADS_MAX = 100
"""Pending uploads of a tenant."""


class UploadState(enum.StrEnum):
    """Where an upload stands."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An announced file."""

    tenant: str
    upload_id: str
    filename: str
    mime_type: str
    purpose: str
    bytes_count: int
    expires_after_seconds: int | None
    """Life of the file, counted from its completion."""
    create_time: datetime.datetime
    expire_time: datetime.datetime
    state: UploadState = UploadState.PENDING
    named: bool = False
    """Whether no other file of the tenant may be found by the file's name."""
    file_id: str = ""
    """Once it is completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of an upload's bytes."""

    upload_id: str
    part_id: str
    digest: str
    bytes_count: int
    create_time: datetime.datetime
    number: int | None = None
    """Its place, of an upload whose parts have one."""


def future_file_id(upload: Upload) -> str:
    """The id that the file will have: where files have names it is told in advance."""
    return FILE_ID + upload.upload_id.removeprefix(UPLOAD_ID)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a numbered part lies in its file."""

    number: int
    offset: int
    bytes_count: int


def spans(bytes_count: int) -> list[Span]:
    """The numbered parts that a file comes in: all of one size but the last."""
    starts = range(0, bytes_count, SPAN_BYTES)
    return [
        Span(number, start, min(SPAN_BYTES, bytes_count - start))
        for number, start in enumerate(starts)
    ]
