"""Turns named exceptions into google.rpc.Status with one ErrorInfo (AIP-193), and back.

A core raises exceptions whose text is public and whose `metadata` holds every changing part of it.
Each service has one table from exception to status code and reason. What is not in the table is a
bug: the caller sees a sentence without details, the log sees the cause.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN = "trine"
STATUS_DETAILS_KEY = "grpc-status-details-bin"
RETRY_AFTER_KEY = "retry-after"
TEXT_BYTES_MAX = 1_000
"""Of a message, and of each of its parts: gRPC gives all of an error's headers 8 KiB."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one exception is told to callers."""

    code: grpc.StatusCode
    reason: str
    retry_seconds: float = 0.0
    """After which the same call may fare better; 0 where time alone changes nothing."""


ErrorTable = Mapping[type[Exception], ErrorRow]


@dataclass(frozen=True, slots=True)
class PublicError:
    """What a caller gets to see of an error."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_seconds: float = 0.0

    @property
    def retry_after(self) -> int:
        """The whole seconds of an HTTP Retry-After; 0 where there is to be none."""
        return math.ceil(self.retry_seconds)

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The error's details as gRPC carries them; Envoy makes Retry-After a header."""
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=ERROR_DOMAIN, metadata=self.metadata
        )
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        status.details.add().Pack(info)
        if not self.retry_seconds:
            return ((STATUS_DETAILS_KEY, status.SerializeToString()),)
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(self.retry_seconds * 1e9))
        status.details.add().Pack(retry)
        return (
            (STATUS_DETAILS_KEY, status.SerializeToString()),
            (RETRY_AFTER_KEY, str(self.retry_after)),
        )


class RefusedError(Exception):
    """A call that ends for a reason that is the same in every service, whatever it asks for."""

    def __init__(self, public: PublicError) -> None:
        super().__init__(public.message)
        self.public = public


def describe(error: Exception, table: ErrorTable) -> PublicError | None:
    """Returns what the table says of an error, or None if it says nothing."""
    for kind in type(error).__mro__:
        row = table.get(kind)
        if row is not None:
            given: Mapping[str, str] = getattr(error, "metadata", {})
            metadata = {name: _shortened(value) for name, value in given.items()}
            message = _shortened(str(error))
            return PublicError(row.code, row.reason, message, metadata, row.retry_seconds)
    return None


def _shortened(text: str) -> str:
    """A text that fits: errors repeat what they were given, which may be of any length."""
    content = text.encode()
    if len(content) <= TEXT_BYTES_MAX:
        return text
    return content[:TEXT_BYTES_MAX].decode(errors="ignore") + "…"


def read_error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Returns the ErrorInfo that came with a failed call; an empty one if none came."""
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return info
    return info


def error_reasons(names: list[str]) -> frozenset[str]:
    """The public reasons behind the value names of a service's ErrorReason enum."""
    return frozenset(name.removeprefix("ERROR_REASON_") for name in names) - {"UNSPECIFIED"}
