"""How the scheduler's errors are told to callers."""

import grpc
from trine.scheduler.v1.error_reason_pb2 import ErrorReason

from services.chassis.database import TEXT_ERRORS
from services.chassis.errors import ErrorRow, ErrorTable, error_reasons
from services.chassis.replies import RequestIdInvalidError, RequestIdReusedError
from services.scheduler.core import errors

Code = grpc.StatusCode

ERRORS: ErrorTable = {
    errors.ArtifactsUnavailableError: ErrorRow(Code.UNAVAILABLE, "ARTIFACTS_UNAVAILABLE"),
    errors.BudgetNotReachedError: ErrorRow(Code.FAILED_PRECONDITION, "BUDGET_NOT_REACHED"),
    errors.DomainNotFoundError: ErrorRow(Code.NOT_FOUND, "DOMAIN_NOT_FOUND"),
    errors.FieldInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    errors.FileRunsExhaustedError: ErrorRow(Code.RESOURCE_EXHAUSTED, "FILE_RUNS_EXHAUSTED"),
    errors.HeadNotFoundError: ErrorRow(Code.NOT_FOUND, "HEAD_NOT_FOUND"),
    errors.LeaseLostError: ErrorRow(Code.ABORTED, "LEASE_LOST"),
    errors.ModelExistsError: ErrorRow(Code.ALREADY_EXISTS, "MODEL_EXISTS"),
    errors.ModelNotFoundError: ErrorRow(Code.NOT_FOUND, "MODEL_NOT_FOUND"),
    errors.NoTripletsError: ErrorRow(Code.FAILED_PRECONDITION, "NO_TRIPLETS"),
    errors.RolloutEndedError: ErrorRow(Code.FAILED_PRECONDITION, "ROLLOUT_ENDED"),
    errors.RolloutNotFoundError: ErrorRow(Code.NOT_FOUND, "ROLLOUT_NOT_FOUND"),
    errors.RolloutWaitingError: ErrorRow(Code.FAILED_PRECONDITION, "ROLLOUT_WAITING"),
    errors.RunActiveError: ErrorRow(Code.ALREADY_EXISTS, "RUN_ACTIVE"),
    errors.RunEndedError: ErrorRow(Code.FAILED_PRECONDITION, "RUN_ENDED"),
    errors.RunNotFoundError: ErrorRow(Code.NOT_FOUND, "RUN_NOT_FOUND"),
    errors.RunStateError: ErrorRow(Code.FAILED_PRECONDITION, "RUN_STATE_INVALID"),
    errors.TenantsTooFewError: ErrorRow(Code.FAILED_PRECONDITION, "TENANTS_TOO_FEW"),
    errors.TripletsUnavailableError: ErrorRow(Code.UNAVAILABLE, "TRIPLETS_UNAVAILABLE"),
    errors.UserNotFoundError: ErrorRow(Code.NOT_FOUND, "USER_NOT_FOUND"),
    errors.WatchersExhaustedError: ErrorRow(Code.RESOURCE_EXHAUSTED, "WATCHERS_EXHAUSTED", 1.0),
    **TEXT_ERRORS,
    RequestIdInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    RequestIdReusedError: ErrorRow(Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
}
REASONS = error_reasons(ErrorReason.keys())
