"""An API key as it is stored, and what its scopes may be."""

import datetime
import re
from dataclasses import dataclass

from services.gateway.core.errors import FieldInvalidError

SCOPES = frozenset(
    {
        "files:read",
        "files:write",
        "heads:read",
        "heads:write",
        "match:read",
        "outcomes:write",
        "runs:read",
        "runs:write",
        "schema:read",
        "schema:write",
        "users:read",
        "users:write",
        "webhooks:read",
        "webhooks:write",
    }
)
_TENANT = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key. Its secret is known to its holder alone."""

    key_id: str
    secret_hash: bytes
    tenant: str
    scopes: frozenset[str]
    expire_time: datetime.datetime | None
    revoked: bool = False


def check_tenant(tenant: str) -> None:
    """Refuses a tenant id that could not stand in an event's subject."""
    if not _TENANT.fullmatch(tenant):
        raise FieldInvalidError(
            "tenant", '1 to 32 characters of a-z, 0-9 and "-", starting with a letter'
        )


def check_scopes(scopes: frozenset[str]) -> None:
    """Refuses scopes that no RPC asks for."""
    unknown = sorted(scopes - SCOPES)
    if unknown:
        raise FieldInvalidError("scopes", f"each one of {', '.join(sorted(SCOPES))}")
