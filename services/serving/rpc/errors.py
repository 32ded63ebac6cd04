"""How serving's errors are told to callers."""

import grpc
from trine.serving.v1.error_reason_pb2 import ErrorReason

from services.chassis.errors import ErrorRow, ErrorTable, error_reasons
from services.serving.core import errors

Code = grpc.StatusCode

ERRORS: ErrorTable = {
    errors.DomainNotFoundError: ErrorRow(Code.NOT_FOUND, "DOMAIN_NOT_FOUND"),
    errors.FieldInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    errors.FilterInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "FILTER_INVALID"),
    errors.ModelNotFoundError: ErrorRow(Code.NOT_FOUND, "MODEL_NOT_FOUND"),
    errors.ModelUnavailableError: ErrorRow(Code.UNAVAILABLE, "MODEL_UNAVAILABLE"),
    errors.NotReadyError: ErrorRow(Code.UNAVAILABLE, "NOT_READY"),
    errors.PageTokenStaleError: ErrorRow(Code.ABORTED, "PAGE_TOKEN_STALE"),
    errors.UserNotFoundError: ErrorRow(Code.NOT_FOUND, "USER_NOT_FOUND"),
}
REASONS = error_reasons(ErrorReason.keys())
