"""What may go wrong at the edge.

GatewayError
├── ContentLostError
├── DeliveryNotFoundError
├── EndpointNotFoundError
├── EndpointUnreachableError
├── FieldInvalidError
├── FileNameTakenError
├── FileNotThereError
├── FileTooLargeError
├── JobNameTakenError
├── JobNotFoundError
├── KeyInvalidError
├── KeyNotFoundError
├── PermissionNotFoundError
├── QuotaExceededError
├── RequestKeyReusedError
├── SchedulerUnavailableError
├── SignatureInvalidError
├── TenantExistsError
├── TenantNotFoundError
├── TransfersExhaustedError
├── UploadNotFoundError
└── UploadStateError
"""


class GatewayError(Exception):
    """Base of all: a public message, and its changing parts by name."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


class ContentLostError(GatewayError):
    """A file's bytes were erased, with another file of the same bytes, while it was made."""

    def __init__(self) -> None:
        super().__init__("The file's bytes could not be kept. Send them again.")


class DeliveryNotFoundError(GatewayError):
    """The endpoint has no such delivery, or has it no more."""

    def __init__(self, event_id: str) -> None:
        super().__init__(f"There is no delivery of {event_id!r}.", event_id=event_id)


class EndpointNotFoundError(GatewayError):
    """The tenant has no such webhook endpoint."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"There is no webhook endpoint {endpoint_id!r}.", endpoint_id=endpoint_id)


class EndpointUnreachableError(GatewayError):
    """A test event could not be sent."""

    def __init__(self, failure: str) -> None:
        super().__init__(f"The endpoint did not answer: {failure}.", field="url", failure=failure)


class FieldInvalidError(GatewayError):
    """A field breaks a rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}.", field=field, rule=rule)


class FileNameTakenError(GatewayError):
    """Another file of the tenant is found by this name."""

    def __init__(self, filename: str) -> None:
        super().__init__(f"There is a file {filename!r} already.", filename=filename)


class FileNotThereError(GatewayError):
    """The tenant has no such file, or has it no more."""

    def __init__(self, file_id: str, field: str = "file_id") -> None:
        super().__init__(f"There is no file {file_id!r}.", file_id=file_id, field=field)


class FileTooLargeError(GatewayError):
    """More bytes than may be sent at once."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"At most {bytes_max:,} bytes may be sent.", bytes_max=str(bytes_max))


class JobNameTakenError(GatewayError):
    """Another job of the tenant is found by this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is a fine-tuning job {name!r} already, of another body.", name=name
        )


class JobNotFoundError(GatewayError):
    """The tenant has no such job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no fine-tuning job {job_id!r}.", job_id=job_id)


class KeyInvalidError(GatewayError):
    """The key is unknown, revoked or expired, or the secret is wrong. Which one stays inside."""

    def __init__(self) -> None:
        super().__init__("The API key is malformed, unknown, revoked or expired.")


class KeyNotFoundError(GatewayError):
    """No key has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no API key with the id {key_id!r}.", key_id=key_id)


class PermissionNotFoundError(GatewayError):
    """The checkpoint has no such permission."""

    def __init__(self, permission_id: str) -> None:
        super().__init__(f"There is no permission {permission_id!r}.", permission_id=permission_id)


class QuotaExceededError(GatewayError):
    """The tenant has as many as it may have."""

    def __init__(self, things: str, count_max: int) -> None:
        super().__init__(
            f"There are {count_max:,} {things} already. Delete or end some.",
            things=things,
            count_max=str(count_max),
        )


class RequestKeyReusedError(GatewayError):
    """The key came before with another request."""

    def __init__(self, request_key: str) -> None:
        super().__init__(
            "The Idempotency-Key came before with another request.", request_key=request_key
        )


class SchedulerUnavailableError(GatewayError):
    """The scheduler cannot be reached."""

    def __init__(self) -> None:
        super().__init__("Runs cannot be reached at the moment. Try again.")


class SignatureInvalidError(GatewayError):
    """An address that carries its own permission was changed, or its time is over."""

    def __init__(self) -> None:
        super().__init__("The address was not given out like this, or has expired. Ask anew.")


class TenantExistsError(GatewayError):
    """The tenant is there already."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"The tenant {tenant!r} exists already.", tenant=tenant)


class TenantNotFoundError(GatewayError):
    """There is no such tenant."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"There is no tenant {tenant!r}.", tenant=tenant)


class TransfersExhaustedError(GatewayError):
    """The tenant sends as many bodies at once as it may."""

    def __init__(self, transfers_max: int) -> None:
        super().__init__(
            f"{transfers_max} uploads are being received already. Try again in a moment.",
            transfers_max=str(transfers_max),
        )


class UploadNotFoundError(GatewayError):
    """The tenant has no such upload."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"There is no upload {upload_id!r}.", upload_id=upload_id)


class UploadStateError(GatewayError):
    """The upload has ended."""

    def __init__(self, upload_id: str, status: str) -> None:
        super().__init__(f"The upload {upload_id} is {status}.", upload_id=upload_id, status=status)
