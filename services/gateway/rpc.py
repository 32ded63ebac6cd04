"""The gateway's RPCs."""

import datetime

import grpc
from google.protobuf import duration_pb2, timestamp_pb2
from trine.gateway.v1 import access_service_pb2 as pb
from trine.gateway.v1 import access_service_pb2_grpc
from trine.gateway.v1.error_reason_pb2 import ErrorReason

from services.chassis.api_key import mint_api_key
from services.chassis.database import TEXT_ERRORS
from services.chassis.errors import ErrorRow, ErrorTable, error_reasons
from services.chassis.interceptors import Context
from services.gateway.core import errors
from services.gateway.core.create_api_key import create_api_key
from services.gateway.core.create_tenant import create_tenant
from services.gateway.core.get_tenant import get_tenant
from services.gateway.core.ports import Clock, KeyStore
from services.gateway.core.resolve_api_key import resolve_api_key
from services.gateway.core.rotate_api_key import OVERLAP_SECONDS, rotate_api_key

Code = grpc.StatusCode

ERRORS: ErrorTable = {
    errors.ContentLostError: ErrorRow(Code.UNAVAILABLE, "CONTENT_LOST"),
    errors.DeliveryNotFoundError: ErrorRow(Code.NOT_FOUND, "DELIVERY_NOT_FOUND"),
    errors.EndpointNotFoundError: ErrorRow(Code.NOT_FOUND, "ENDPOINT_NOT_FOUND"),
    errors.EndpointUnreachableError: ErrorRow(Code.INVALID_ARGUMENT, "ENDPOINT_UNREACHABLE"),
    errors.FieldInvalidError: ErrorRow(Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    errors.FileNameTakenError: ErrorRow(Code.ALREADY_EXISTS, "FILE_EXISTS"),
    errors.FileNotThereError: ErrorRow(Code.NOT_FOUND, "FILE_NOT_FOUND"),
    errors.FileTooLargeError: ErrorRow(Code.RESOURCE_EXHAUSTED, "FILE_TOO_LARGE"),
    errors.JobNameTakenError: ErrorRow(Code.ALREADY_EXISTS, "JOB_EXISTS"),
    errors.JobNotFoundError: ErrorRow(Code.NOT_FOUND, "JOB_NOT_FOUND"),
    errors.KeyInvalidError: ErrorRow(Code.UNAUTHENTICATED, "API_KEY_INVALID"),
    errors.KeyNotFoundError: ErrorRow(Code.NOT_FOUND, "API_KEY_NOT_FOUND"),
    errors.PermissionNotFoundError: ErrorRow(Code.NOT_FOUND, "PERMISSION_NOT_FOUND"),
    errors.QuotaExceededError: ErrorRow(Code.FAILED_PRECONDITION, "QUOTA_EXCEEDED"),
    errors.RequestKeyReusedError: ErrorRow(Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    errors.SchedulerUnavailableError: ErrorRow(Code.UNAVAILABLE, "SCHEDULER_UNAVAILABLE"),
    errors.SignatureInvalidError: ErrorRow(Code.PERMISSION_DENIED, "SIGNATURE_INVALID"),
    errors.TenantExistsError: ErrorRow(Code.ALREADY_EXISTS, "TENANT_EXISTS"),
    errors.TenantNotFoundError: ErrorRow(Code.NOT_FOUND, "TENANT_NOT_FOUND"),
    errors.TransfersExhaustedError: ErrorRow(Code.RESOURCE_EXHAUSTED, "TRANSFERS_EXHAUSTED", 1.0),
    errors.UploadNotFoundError: ErrorRow(Code.NOT_FOUND, "UPLOAD_NOT_FOUND"),
    errors.UploadStateError: ErrorRow(Code.FAILED_PRECONDITION, "UPLOAD_STATE_INVALID"),
    **TEXT_ERRORS,
}
REASONS = error_reasons(ErrorReason.keys())


class AccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """Tenants and keys for the mesh."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def ResolveApiKey(
        self, request: pb.ResolveApiKeyRequest, context: Context
    ) -> pb.ResolveApiKeyResponse:
        key = await resolve_api_key(
            self._store, self._clock, key_id=request.key_id, secret_hash=request.secret_hash
        )
        response = pb.ResolveApiKeyResponse(tenant=key.tenant, scopes=sorted(key.scopes))
        _put_time(response.expire_time, key.expire_time)
        return response

    async def CreateTenant(
        self, request: pb.CreateTenantRequest, context: Context
    ) -> pb.CreateTenantResponse:
        await create_tenant(self._store, request.tenant)
        return pb.CreateTenantResponse(tenant=request.tenant)

    async def GetTenant(
        self, request: pb.GetTenantRequest, context: Context
    ) -> pb.GetTenantResponse:
        await get_tenant(self._store, request.tenant)
        return pb.GetTenantResponse(tenant=request.tenant)

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Context
    ) -> pb.CreateApiKeyResponse:
        text, hashed = mint_api_key()
        ttl_seconds = None
        if request.HasField("ttl"):
            ttl_seconds = _seconds(request.ttl)
        await create_api_key(
            self._store,
            self._clock,
            tenant=request.tenant,
            scopes=frozenset(request.scopes),
            ttl_seconds=ttl_seconds,
            key_id=hashed.key_id,
            secret_hash=hashed.secret_hash,
        )
        return pb.CreateApiKeyResponse(api_key=text, key_id=hashed.key_id)

    async def RotateApiKey(
        self, request: pb.RotateApiKeyRequest, context: Context
    ) -> pb.RotateApiKeyResponse:
        text, hashed = mint_api_key(request.key_id)
        overlap_seconds = OVERLAP_SECONDS
        if request.HasField("overlap"):
            overlap_seconds = _seconds(request.overlap)
        key = await rotate_api_key(
            self._store,
            self._clock,
            key_id=request.key_id,
            secret_hash=hashed.secret_hash,
            overlap_seconds=overlap_seconds,
        )
        response = pb.RotateApiKeyResponse(api_key=text)
        _put_time(response.old_secret_expire_time, key.old_secret_expire_time)
        return response

    async def GetApiKey(
        self, request: pb.GetApiKeyRequest, context: Context
    ) -> pb.GetApiKeyResponse:
        key = await self._store.find_key(request.key_id)
        if key is None:
            raise errors.KeyNotFoundError(request.key_id)
        response = pb.GetApiKeyResponse(
            tenant=key.tenant, scopes=sorted(key.scopes), revoked=key.revoked
        )
        _put_time(response.expire_time, key.expire_time)
        _put_time(response.last_used_time, key.last_used_time)
        _put_time(response.old_secret_expire_time, key.old_secret_expire_time)
        _put_time(response.old_secret_last_used_time, key.old_secret_last_used_time)
        return response

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, context: Context
    ) -> pb.RevokeApiKeyResponse:
        await self._store.revoke_key(request.key_id)
        return pb.RevokeApiKeyResponse()


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _put_time(field: timestamp_pb2.Timestamp, time: datetime.datetime | None) -> None:
    """Fills a field in; without a time it stays absent."""
    if time is not None:
        field.FromDatetime(time)
