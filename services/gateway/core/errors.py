"""What may go wrong with tenants and keys.

GatewayError
├── FieldInvalidError
├── KeyInvalidError
├── KeyNotFoundError
├── TenantExistsError
└── TenantNotFoundError
"""


class GatewayError(Exception):
    """Base of all: a public message, and its changing parts by name."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


class FieldInvalidError(GatewayError):
    """A field breaks a rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} must have: {rule}.", field=field, rule=rule)


class KeyInvalidError(GatewayError):
    """The key is unknown, revoked or expired, or the secret is wrong. Which one stays inside."""

    def __init__(self) -> None:
        super().__init__("The API key is malformed, unknown, revoked or expired.")


class KeyNotFoundError(GatewayError):
    """No key has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no API key with the id {key_id!r}.", key_id=key_id)


class TenantExistsError(GatewayError):
    """The tenant is there already."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"The tenant {tenant!r} exists already.", tenant=tenant)


class TenantNotFoundError(GatewayError):
    """There is no such tenant."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"There is no tenant {tenant!r}.", tenant=tenant)
