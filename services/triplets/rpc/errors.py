"""How the triplet store's errors are told to callers."""

import grpc
from trine.triplets.v1.error_reason_pb2 import ErrorReason

from services.chassis.database import TEXT_ERRORS
from services.chassis.errors import ErrorRow, ErrorTable, error_reasons
from services.chassis.replies import RequestIdInvalidError, RequestIdReusedError
from services.triplets.core import errors

Code = grpc.StatusCode

ERRORS: ErrorTable = {
    errors.DomainNotFoundError: ErrorRow(Code.NOT_FOUND, "DOMAIN_NOT_FOUND"),
    errors.DomainsExhaustedError: ErrorRow(Code.RESOURCE_EXHAUSTED, "DOMAINS_EXHAUSTED"),
    errors.EncoderUnavailableError: ErrorRow(Code.UNAVAILABLE, "ENCODER_UNAVAILABLE"),
    errors.FieldInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    errors.LabelInUseError: ErrorRow(Code.FAILED_PRECONDITION, "LABEL_IN_USE"),
    errors.LabelUnknownError: ErrorRow(Code.INVALID_ARGUMENT, "LABEL_UNKNOWN"),
    errors.MatchNotFoundError: ErrorRow(Code.NOT_FOUND, "MATCH_NOT_FOUND"),
    errors.MemoryResolverMissingError: ErrorRow(
        Code.FAILED_PRECONDITION, "MEMORY_RESOLVER_MISSING"
    ),
    errors.SchemaIncompatibleError: ErrorRow(Code.FAILED_PRECONDITION, "SCHEMA_INCOMPATIBLE"),
    errors.TemplateNotFoundError: ErrorRow(Code.NOT_FOUND, "TEMPLATE_NOT_FOUND"),
    errors.TenantsTooFewError: ErrorRow(Code.FAILED_PRECONDITION, "TENANTS_TOO_FEW"),
    errors.TrainingFileInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "INVALID_TRAINING_FILE"),
    errors.UserChangedError: ErrorRow(Code.ABORTED, "USER_CHANGED"),
    errors.UserNotFoundError: ErrorRow(Code.NOT_FOUND, "USER_NOT_FOUND"),
    errors.ValidationFileInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "INVALID_VALIDATION_FILE"),
    **TEXT_ERRORS,
    RequestIdInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    RequestIdReusedError: ErrorRow(Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
}
REASONS = error_reasons(ErrorReason.keys())
