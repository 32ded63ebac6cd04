"""Turns named exceptions into google.rpc.Status with one ErrorInfo (AIP-193), and back.

A core raises exceptions whose text is public and whose `metadata` holds every changing part of it.
Each service has one table from exception to status code and reason. What is not in the table is a
bug: the caller sees a sentence without details, the log sees the cause.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN = "trine"
STATUS_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one exception is told to callers."""

    code: grpc.StatusCode
    reason: str


ErrorTable = Mapping[type[Exception], ErrorRow]


@dataclass(frozen=True, slots=True)
class PublicError:
    """What a caller gets to see of an error."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The error's details as gRPC carries them."""
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=ERROR_DOMAIN, metadata=self.metadata
        )
        details = any_pb2.Any()
        details.Pack(info)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=[details])
        return ((STATUS_DETAILS_KEY, status.SerializeToString()),)


def describe(error: Exception, table: ErrorTable) -> PublicError | None:
    """Returns what the table says of an error, or None if it says nothing."""
    for kind in type(error).__mro__:
        row = table.get(kind)
        if row is not None:
            metadata: Mapping[str, str] = getattr(error, "metadata", {})
            return PublicError(row.code, row.reason, str(error), metadata)
    return None


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
