"""A file that comes in parts: the upload, from its announcement to the file or its end.

pending → completed: a file
   ├────→ cancelled
   └────→ expired: an hour after the announcement
"""

import datetime
import enum
from dataclasses import dataclass

UPLOAD_ID = "upload_"
PART_ID = "part_"
UPLOAD_SECONDS = 3_600
UPLOAD_BYTES_MAX = 2 * 1024**3
"""What the artifact store takes."""
PART_BYTES_MAX = 64 * 1024**2
PARTS_MAX = 1_000
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
